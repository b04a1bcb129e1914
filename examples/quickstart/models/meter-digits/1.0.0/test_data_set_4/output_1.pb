
BprobabilitiesJ('45*=·5&A¹0#ßÈ/Şı?·Y6‘}76ÇgÊ7/‹l5	5