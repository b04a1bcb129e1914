
BprobabilitiesJ(¾°+öD—1üÿ?¸ù111I²+IÂ&ÿK2ˆµK4Ô,