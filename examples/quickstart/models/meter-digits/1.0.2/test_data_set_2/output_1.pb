
BprobabilitiesJ(∆8	r9bm{?`á;êÉ9ªà7[ÂT4M∆Ü9iu<Êeœ7