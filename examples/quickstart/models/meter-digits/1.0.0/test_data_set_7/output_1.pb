
BprobabilitiesJ(+ìÆ<Ïßf<¢Â;¼}¬9¢N=x*=gI5zÈÛ>§šr=OGË>