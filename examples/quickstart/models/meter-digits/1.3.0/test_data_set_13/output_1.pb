
BprobabilitiesJ(Œ—‚)W¨Q8ÈèF2Ã3S,†äû;:|/ÿÌÂ.ğ~?Z^&½æ/