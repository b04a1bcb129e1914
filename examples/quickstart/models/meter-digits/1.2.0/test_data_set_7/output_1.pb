
BprobabilitiesJ(›­´>f×æ=RL7<™„5å¡Ø:y7›<Ä8+ßR4=X†Ø=ª´>