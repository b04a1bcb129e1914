
BprobabilitiesJ(lé7&I>¥$³<d¸5S3;k7z;îÉÂ*žhè=C°°=%?