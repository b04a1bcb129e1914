2pump-set2valve2STUCK2again2#2#2#2#2#2#2#2#2Überhitzt:2Kühlung2läuft;2naïve2のテキスト2#2#2#2c	de
f2#2#2#2#2#2#2#By0