
BprobabilitiesJ(Ìnœ3¡¤Ñ5Ê3@´6õ(ž5ü?bs¦3Tm`6>.8ú˜7