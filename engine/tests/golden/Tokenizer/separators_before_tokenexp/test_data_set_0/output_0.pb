2Th2 pump-s2t is hot, valv2 7 STUCK again2#2#2#2#2pump2#2#2#2Üb2rhitzt: Kühlung läuft; naïv2 café2#2日本語 のテキスト 😀2#2#2#2a b  c	d2
f2#2#2!!! ??? ...2#2#2#By0