
BprobabilitiesJ("Ÿ6Ï¸Ö0‚U7¬å•9˛Uì22•>:*‚ó1„ïi7^OÆ=’Ôi?