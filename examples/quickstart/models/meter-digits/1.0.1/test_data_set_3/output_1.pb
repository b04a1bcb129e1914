
BprobabilitiesJ(╕z8cuТ7Aби=*в>)D50ГI9Ы@▒5r▀<9fЯ>E"b: