
BprobabilitiesJ(Ä×7%c<2­8äN:±t4=Ñ×:\ƒ23æPS8£fà=jLc?