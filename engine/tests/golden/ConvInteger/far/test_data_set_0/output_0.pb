By0J€ð*Ú
h@Gh@Gð*Ú
h@Gœàjœàjh@Gh@Gœàjœàjh@Gð*Ú
h@Gh@Gð*Ú
ð*Ú
h@Gh@Gð*Ú
h@Gœàjœàjh@Gh@Gœàjœàjh@Gð*Ú
h@Gh@Gð*Ú
