
BprobabilitiesJ(Ñ`5!|?.b;8ı;î:„‹4ß-7—C:ÿgÏ;U ç8