
BprobabilitiesJ(úà?Ÿƒ5ArÃ7NLƒ3u58,SÇ8KÎ6‘ÌÑ6T´7ìy–9