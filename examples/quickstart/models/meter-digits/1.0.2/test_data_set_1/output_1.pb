
BprobabilitiesJ(P½5¨˜|?Ü·8 ©ò;?¦:¥%V4wî}7xŽ):û“;¾½9