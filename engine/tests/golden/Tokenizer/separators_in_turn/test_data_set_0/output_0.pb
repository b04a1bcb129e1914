2The 2um2set is hot, valve 7 STUCK again2#2#2#2um2#2#2)Überhitzt: Kühlung läuft; naïve café2#2#2日本語 のテキスト 😀2#2#2a b  c	de
f2#2#2!!! ??? ...2#2#By0