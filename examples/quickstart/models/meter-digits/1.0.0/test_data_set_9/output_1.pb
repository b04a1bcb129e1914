
BprobabilitiesJ(7¼8)Ã9’iÏ7æ–¢;Ìœé8å9ò3rCÄ<ÂDÓ;Şv?