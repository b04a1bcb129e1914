"""Cases that onnxruntime answers and the engine refuses, or answers otherwise: a name leaves this list when the engine answers it."""

AHEAD = {
    # not there
    "CDist": ["euclidean", "sqeuclidean"],
    # its axis may be a list of one
    "CumSum": ["constant"],
    # not there
    "DynamicQuantizeLSTM": ["forward"],
    # 16 bits
    "Gemm": ["float16"],
    # on what is known when the file is read, with branches of unlike shapes
    "If": ["constant_false", "constant_true", "of_a_shape"],
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
    # a vector in place of a table
    "Scaler": ["row"],
    # not there
    "StringNormalizer": ["lower", "stop"],
    # not there
    "TfIdfVectorizer": ["counts", "ints", "presence", "weights"],
    # not there
    "TreeEnsemble": ["double_average", "double_max", "double_min", "double_sum", "float_average", "float_max", "float_min", "float_sum", "members"],
    # a set's members lead to one child: no trees, and no cycle; the label where there is one class
    "TreeEnsembleClassifier": ["leaf_weighs_thrice_one", "members_share_a_child"],
    # the same
    "TreeEnsembleRegressor": ["members_share_a_child"],
}
