
BprobabilitiesJ(¬¬+8"ö?8Õ
>Ag½>¢AL5øq99u5Üt<zæõ>”v$: