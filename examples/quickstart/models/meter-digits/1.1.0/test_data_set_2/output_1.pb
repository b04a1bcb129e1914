
BprobabilitiesJ(õW+_ùØ1Üÿ?ØÆÇ0•ò/1m,ğö&e=1”y6Ït+