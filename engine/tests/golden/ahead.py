"""Cases that onnxruntime answers and the engine refuses, or answers otherwise: a name leaves this list when the engine answers it."""

AHEAD = {
    # sums halfway between two numbers, which onnxruntime rounds after another order of products
    "QLinearAdd": ["int8_ties", "uint8_ties"],
    # a vector whose length the file leaves open, and no shape of the output
    "Scaler": ["row"],
}
