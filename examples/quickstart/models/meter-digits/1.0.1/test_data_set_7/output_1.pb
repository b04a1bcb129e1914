
BprobabilitiesJ(£=«FE< *K;z@¨9£´@=f8="É5«$¶>Œuv=Þ&ã>