
BprobabilitiesJ(—Y1Cж$’д.`'.?ћЃ-і6F5оя?б`!S%У4?Ќ 