
BprobabilitiesJ(`FÜ7¶Ô½7ˆ&ö=\PÈ>ààÉ4›‡¸8Øa)54Å;bÀö>’Hõ9