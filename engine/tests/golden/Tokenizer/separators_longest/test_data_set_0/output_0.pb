2The pump2 hot, valve 7 STUCK again2#2#2pump2#2)Überhitzt: Kühlung läuft; naïve café2#2日本語 のテキスト 😀2#2a b  c	de
f2#2!!! ??? ...2#By0