
BprobabilitiesJ(ÇÓ(™Õ²+xQ:=‰Wt?
ÖÞ)&ö3÷x1&Â"W8÷Óý3CnÌ2