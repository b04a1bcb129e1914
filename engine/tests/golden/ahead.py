"""Cases that onnxruntime answers and the engine refuses, or answers otherwise: a name leaves this list when the engine answers it."""

AHEAD = {
    # not there
    "CDist": ["euclidean", "sqeuclidean"],
    # its last cell state for a known count of rows
    "LSTM": ["forward", "reverse"],
    # not there
    "MurmurHash3": ["words"],
    # not there
    "QGemm": ["float", "turned_each", "uint8"],
    # not there
    "QLinearAdd": ["uint8"],
    # not there
    "QLinearMul": ["uint8"],
    # not there
    "QLinearSoftmax": ["uint8"],
    # a vector whose length the file leaves open, and no shape of the output
    "Scaler": ["row"],
    # not there
    "StringNormalizer": ["lower", "stop"],
    # not there
    "TfIdfVectorizer": ["counts", "ints", "presence", "weights"],
    # not there
    "TreeEnsemble": ["double_average", "double_max", "double_min", "double_sum", "float_average", "float_max", "float_min", "float_sum", "members"],
}
