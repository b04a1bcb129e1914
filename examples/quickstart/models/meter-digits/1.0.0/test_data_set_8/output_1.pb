
BprobabilitiesJ(J)Ì8Ò¨9JT‡:åM	="æ9™û<[tƒ99Éò;›#?±>