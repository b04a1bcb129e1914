
BprobabilitiesJ(‰l>™ÓF<‡-5;·¶9É=ý=º±l5ˆbË>1H;=R_>