
BprobabilitiesJ(Le,5,оv57lЖ0h/,ю?ва6З!!6љN­7±i5ЎГ5