
BprobabilitiesJ(W¤(ŸÔ¥*!“G<§Þ|?<8*}]¤30:&€(B8GD"4¼e%2