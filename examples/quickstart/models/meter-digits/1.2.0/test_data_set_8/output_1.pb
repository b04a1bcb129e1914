
BprobabilitiesJ(ลJ74ฑ/ฬด7่|:jฆง2m-:#71๓Pr7:?ะฏิ>