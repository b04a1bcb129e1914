
BprobabilitiesJ(°sD8Ÿd¥9Xºx?7%;…â§9iéB7$‘L4„AŒ9VèË<Wµ8