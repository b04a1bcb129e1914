
BprobabilitiesJ( Ü6nå7LšÎ8ƒCË7ú
‘;±ì·8ûGÕ3Ó-¯<÷°;Bôw?