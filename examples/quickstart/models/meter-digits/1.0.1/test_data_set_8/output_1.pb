
BprobabilitiesJ(µÄ8İÿ8ï‚:}iÁ<¸ ¼9r—Î;*@9‹ßõ;ü”7?X•y>