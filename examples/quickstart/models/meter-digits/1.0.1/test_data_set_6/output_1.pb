
BprobabilitiesJ(:hŞ9³ÉÚ5Â½7[‘6Ú~z8ÊI;ØÖ~?àã4:’Ú:l³T1