
BprobabilitiesJ(îŸk0"T"ß`‹-[t,ÖXç*¿!ª4ôÿ?2õã£Æ4=„