
BprobabilitiesJ(Ù‘,2þ·Á%àf£/UF´.Ý”P-8>ø5¼ÿ?-í"L6 3"