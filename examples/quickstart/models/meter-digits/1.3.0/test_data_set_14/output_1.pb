
BprobabilitiesJ(a´Ä;ä®É=f*À;a'=²®¹:ÏÞŒ<?1=¦ä:èG?ß*‰<