
BprobabilitiesJ(2¿,‹‡—1µb9¸\1exÜ7&„5Ş2e*rå7ÕûD8‘ğ?