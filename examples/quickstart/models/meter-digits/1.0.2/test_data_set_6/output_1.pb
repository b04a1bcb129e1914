
BprobabilitiesJ(.éè9=iÓ5"(7 =6U*G8«;Û~?‘Á4beË:ô<1