
BprobabilitiesJ(¼ÿ!7x2×7³ˆ!9dÑ7ÅpP;YùÇ8_{Ì3Ò6œ<ˆ“;|y?