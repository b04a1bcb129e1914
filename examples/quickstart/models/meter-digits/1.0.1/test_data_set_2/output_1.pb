
BprobabilitiesJ(#Mi8ó™ò9ğy?ëø:ZÚ°9&!:7Èj¨4x¥¢9o¨<Ø"8