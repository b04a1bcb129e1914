
BprobabilitiesJ(5F‚3їй5–Dе2x{†6eWќ5ты?ф03©х‡6ж8рX7