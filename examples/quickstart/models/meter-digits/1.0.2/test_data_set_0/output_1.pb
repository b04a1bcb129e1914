
BprobabilitiesJ(‡β?ας‡5Ωaι7‰=3©υ*8½X¶8­A?6Ζ΄ο6*f7κ29