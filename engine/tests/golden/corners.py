"""Further corners of the ai.onnx.ml operators: what exporters write and the plain cases of `make.py` do not show."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, INT64, STRING = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING
BOTH = [INT64, FLOAT]
# What onnxruntime refuses, or has no file for in a test data set.
REFUSED = {
    "Binarizer/double": "no kernel for other types than float",
    "DictVectorizer": "its input is a map, which a test data set has no file for",
    "OneHotEncoder/strict_unknown": "an error at the call, as it must be",
    "SVMRegressor/float64": "no kernel for other types than float",
    "TreeEnsemble/double_of_float": "thresholds and input must be of one type",
}


def trees(m):
    case, x = m.case, m.floats(17, 4, seed=101)
    leaves = dict(nodes_treeids=[0] * 3, nodes_nodeids=[0, 1, 2], nodes_featureids=[1, 0, 0], nodes_values=[0.2, 0.0, 0.0],
                  nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0])
    weights = dict(target_treeids=[0] * 4, target_nodeids=[1, 1, 1, 2], target_ids=[0] * 4, target_weights=[1.0, 2.0, 4.0, 8.0])
    case("TreeEnsembleRegressor", "leaf_weighs_thrice", {"x": x}, [FLOAT], n_targets=1, **leaves, **weights)
    case("TreeEnsembleRegressor", "leaf_weighs_thrice_two", {"x": x}, [FLOAT], n_targets=2, **leaves, **weights)
    class_weights = {key.replace("target_", "class_"): value for key, value in weights.items()}
    case("TreeEnsembleClassifier", "leaf_weighs_thrice_one", {"x": x}, BOTH, classlabels_int64s=[7], **leaves, **class_weights)
    alone = m.forest(3, 2, 1, "class", seed=113)
    for post in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        case("TreeEnsembleClassifier", f"one_{post.lower()}", {"x": x}, BOTH, classlabels_int64s=[-3], post_transform=post, **alone)
    case("TreeEnsembleClassifier", "one_base", {"x": x}, BOTH, classlabels_int64s=[7], base_values=[-0.4], **alone)
    case("TreeEnsembleClassifier", "one_probit", {"x": x}, BOTH, classlabels_int64s=[7], post_transform="PROBIT",
         **m.forest(3, 2, 1, "class", seed=114, weight=lambda draw: 0.1 + draw.random() / 5))
    for aggregate in ["SUM", "MIN", "MAX"]:
        case("TreeEnsembleRegressor", f"unweighed_{aggregate.lower()}", {"x": x}, [FLOAT], n_targets=3, aggregate_function=aggregate,
             base_values=[3.0, -3.0, 5.0], **leaves, **(weights | {"target_ids": [1, 1, 1, 2]}))
        case("TreeEnsembleRegressor", f"nothing_{aggregate.lower()}", {"x": x}, [FLOAT], n_targets=2, aggregate_function=aggregate,
             **m.forest(5, 2, 2, "target", seed=113, complete=True, weight=lambda draw: draw.integers(-1, 2) * 1.0))
    ways = dict(target_treeids=[0] * 3, target_nodeids=[3, 4, 5], target_ids=[0] * 3, target_weights=[1.0, 2.0, 4.0])
    shared = dict(nodes_treeids=[0] * 6, nodes_nodeids=[0, 1, 2, 3, 4, 5], nodes_featureids=[0, 0, 0, 0, 0, 0],
                  nodes_values=[1.0, 3.0, 5.0, 0.0, 0.0, 0.0], nodes_modes=["BRANCH_EQ"] * 3 + ["LEAF"] * 3,
                  nodes_truenodeids=[3, 3, 4, 0, 0, 0], nodes_falsenodeids=[1, 2, 5, 0, 0, 0])
    whole = np.arange(8, dtype=np.float32).reshape(-1, 1)
    case("TreeEnsembleRegressor", "members_share_a_child", {"x": whole}, [FLOAT], n_targets=1, **shared, **ways)
    deep = dict(nodes_treeids=[0] * 9 + [1] * 3, nodes_nodeids=[*range(9), 0, 1, 2], nodes_featureids=[0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0],
                nodes_values=[1.0, 6.0, 3.0, 5.0, 0, 0, 0, 2.0, 0, 4.0, 0, 0],
                nodes_modes=["BRANCH_EQ", "BRANCH_EQ", "BRANCH_LEQ", "BRANCH_GT", "LEAF", "LEAF", "LEAF", "BRANCH_EQ", "LEAF", "BRANCH_LT", "LEAF", "LEAF"],
                nodes_truenodeids=[2, 2, 4, 5, 0, 0, 0, 2, 0, 1, 0, 0], nodes_falsenodeids=[1, 7, 3, 6, 0, 0, 0, 8, 0, 2, 0, 0],
                target_treeids=[0, 0, 0, 0, 1, 1], target_nodeids=[4, 5, 6, 8, 1, 2], target_ids=[0] * 6,
                target_weights=[1.0, 2.0, 4.0, 8.0, 0.25, 0.5])
    table = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2).astype(np.float32)
    case("TreeEnsembleRegressor", "members_share_a_tree", {"x": table}, [FLOAT], n_targets=1, **deep)
    for tracks in (0, 1):
        case("TreeEnsembleRegressor", f"members_share_a_tree_nan_{tracks}", {"x": np.where(table == 3, np.nan, table).astype(np.float32)}, [FLOAT],
             n_targets=1, nodes_missing_value_tracks_true=[tracks, tracks, 1, 0, 0, 0, 0, tracks, 0, 1, 0, 0], **deep)
    case("TreeEnsembleRegressor", "members_share_a_tree_double", {"x": table.astype(np.float64)}, [FLOAT], n_targets=1, **deep)
    case("TreeEnsembleRegressor", "no_base_three", {"x": x}, [FLOAT], n_targets=3, **m.forest(5, 2, 3, "target", seed=102))
    case("TreeEnsembleRegressor", "infinite", {"x": np.array([[np.inf, -np.inf, 0, 1], [-np.inf, np.inf, 1, 0]], np.float32)}, [FLOAT],
         n_targets=1, **m.forest(5, 3, 1, "target", seed=103))
    case("TreeEnsembleRegressor", "negative_zero", {"x": np.array([[-0.0] * 4, [0.0] * 4], np.float32)}, [FLOAT], n_targets=1,
         **m.forest(9, 3, 1, "target", seed=104, grid=True, modes=("BRANCH_LT", "BRANCH_GTE", "BRANCH_EQ")))
    case("TreeEnsembleRegressor", "average_base_two", {"x": x}, [FLOAT], n_targets=2, aggregate_function="AVERAGE",
         base_values=[3.0, -3.0], **m.forest(4, 2, 2, "target", seed=105))
    case("TreeEnsembleRegressor", "many", {"x": m.floats(70, 4, seed=106)}, [FLOAT], n_targets=1, **m.forest(40, 2, 1, "target", seed=107))
    tied = m.forest(3, 2, 3, "class", seed=108, complete=True, weight=lambda draw: 0.25)
    case("TreeEnsembleClassifier", "tie", {"x": x}, BOTH, classlabels_int64s=[5, 6, 7], **tied)
    case("TreeEnsembleClassifier", "negative", {"x": x}, BOTH, classlabels_int64s=[5, 6, 7],
         **m.forest(3, 2, 3, "class", seed=109, weight=lambda draw: -draw.random()))
    case("TreeEnsembleClassifier", "one_row", {"x": x[:1]}, BOTH, classlabels_int64s=[0, 1, 2], **m.forest(9, 3, 3, "class", seed=110))
    case("TreeEnsembleClassifier", "nan_float64", {"x": m.holes(17, 4).astype(np.float64)}, BOTH, classlabels_int64s=[0, 1, 2],
         **m.forest(5, 3, 3, "class", seed=111, nan=True))
    case("TreeEnsembleClassifier", "first_words", {"x": x}, [STRING, FLOAT], classlabels_strings=["no", "yes"], post_transform="LOGISTIC",
         **m.only(m.forest(5, 2, 2, "class", seed=112), 0))
    members = {key.replace("target_", "class_"): value for key, value in ways.items()} | {"class_ids": [0, 1, 2]}
    case("TreeEnsembleClassifier", "members_share_a_child", {"x": whole}, BOTH, classlabels_int64s=[0, 1, 2], **shared, **members)


def set_trees(m):
    """TreeEnsemble of ai.onnx.ml 5: thresholds as tensors, membership in sets."""
    x = m.floats(17, 3, seed=120)
    tensor = lambda values, dtype: numpy_helper.from_array(np.asarray(values, dtype))
    for name, dtype, out in (("float", np.float32, FLOAT), ("double", np.float64, DOUBLE)):
        for aggregate, function in enumerate(("average", "sum", "min", "max")):
            m.case("TreeEnsemble", f"{name}_{function}", {"x": x.astype(dtype)}, [out], opset=5, n_targets=2, aggregate_function=aggregate,
                   nodes_splits=tensor([0.1, -0.4, 0.6], dtype), nodes_featureids=[0, 1, 2], nodes_modes=tensor([0, 1, 3], np.uint8),
                   nodes_truenodeids=[1, 0, 2], nodes_falsenodeids=[2, 1, 3], nodes_trueleafs=[0, 1, 1], nodes_falseleafs=[0, 1, 1],
                   nodes_missing_value_tracks_true=[1, 0, 1], tree_roots=[0], leaf_targetids=[0, 1, 0, 1],
                   leaf_weights=tensor([1.5, 2.5, -3.5, 4.5], dtype))
    m.case("TreeEnsemble", "members", {"x": np.array([[1.2, 3.4, -0.12], [np.nan, 12, 2], [66, 232, 4], [8, 3, np.nan]], np.float32)}, [FLOAT],
           opset=5, n_targets=2, nodes_splits=tensor([3.14, 1.2, 4.2], np.float32), nodes_featureids=[0, 0, 0],
           nodes_modes=tensor([0, 6, 6], np.uint8), nodes_truenodeids=[1, 0, 1], nodes_falsenodeids=[2, 2, 3],
           nodes_trueleafs=[0, 1, 1], nodes_falseleafs=[1, 0, 1], tree_roots=[0], leaf_targetids=[0, 1, 0, 1],
           leaf_weights=tensor([5.23, 12.12, -12.23, 7.21], np.float32),
           membership_values=tensor([1.2, 3.7, 8.0, 9.0, np.nan, 12.0, 7.0, np.nan], np.float32))


def columns(m):
    case, x = m.case, np.array([[-3, 1, 2], [0, 0, 0], [-1, -5, -2]], np.float32)
    for norm in ("MAX", "L1", "L2"):
        case("Normalizer", f"{norm.lower()}_nan", {"x": m.holes(6, 3)}, [FLOAT], norm=norm)
        case("Normalizer", f"{norm.lower()}_row", {"x": x[0]}, [FLOAT], norm=norm)
        case("Normalizer", f"{norm.lower()}_negative", {"x": x}, [FLOAT], norm=norm)
    case("Scaler", "empty", {"x": x[:0]}, [FLOAT], offset=[1.0], scale=[2.0])
    case("Scaler", "row", {"x": x[0]}, [FLOAT], offset=[1.0, 2.0, 3.0], scale=[2.0, 2.0, 0.5])
    case("Binarizer", "default", {"x": x}, [FLOAT])
    case("Binarizer", "empty", {"x": x[:0]}, [FLOAT], threshold=1.0)
    case("Imputer", "empty", {"x": x[:0]}, [FLOAT], imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan"))
    case("Imputer", "one_int", {"x": x.astype(np.int64)}, [INT64], imputed_value_int64s=[9], replaced_value_int64=0)
    case("Imputer", "negative_zero", {"x": np.array([[-0.0, 0.0, np.nan]], np.float32)}, [FLOAT], imputed_value_floats=[4.0],
         replaced_value_float=0.0)
    case("ArrayFeatureExtractor", "row", {"x": x[0]}, [FLOAT], constants={"at": np.array([2, 0])})
    case("ArrayFeatureExtractor", "row_words", {"x": m.words("a", "b", "c")}, [STRING], constants={"at": np.array([2, 0])})
    case("ArrayFeatureExtractor", "one_of_each", {"x": x}, [FLOAT], constants={"at": np.array([1])})
    pick = helper.make_node("ArrayFeatureExtractor", ["labels", "x"], ["y0"], domain="ai.onnx.ml")
    m.graph("ArrayFeatureExtractor", "labels", [pick], {"x": np.array([2, 0, 1, 1])}, [INT64], constants={"labels": np.array([10, 20, 30])})
    case("FeatureVectorizer", "float64", {"x": x.astype(np.float64), "z": x.astype(np.float64)}, [FLOAT], inputdimensions=[3, 3])
    case("FeatureVectorizer", "three", {"x": x, "y": x[:, :1], "z": x[:, :2]}, [FLOAT], inputdimensions=[3, 1, 2])


def names(m):
    case, words = m.case, m.words
    tensor = lambda *values, dtype: helper.make_tensor("t", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [len(values)], values)
    strings = lambda *values: helper.make_tensor("t", STRING, [len(values)], [value.encode() for value in values])
    ints, texts = np.array([[3, 1], [2, 9]]), words(["b", "a"], ["", "ü"])
    some = dict(opset=4)
    case("LabelEncoder", "tensors_words_ints", {"x": texts}, [INT64], **some, keys_tensor=strings("a", "ü"),
         values_tensor=tensor(7, 8, dtype=np.int64), default_tensor=tensor(-4, dtype=np.int64))
    case("LabelEncoder", "tensors_ints_words", {"x": ints}, [STRING], **some, keys_tensor=tensor(1, 2, dtype=np.int64),
         values_tensor=strings("one", "two"), default_tensor=strings("many"))
    case("LabelEncoder", "words_floats_nan", {"x": texts}, [FLOAT], **some, keys_strings=["a", "b"], values_floats=[1.0, 2.0],
         default_float=float("nan"))
    case("LabelEncoder", "floats_words", {"x": np.array([1.5, np.nan, 9], np.float32)}, [STRING], **some, keys_floats=[1.5, float("nan")],
         values_strings=["low", "none"], default_string="?")
    case("LabelEncoder", "floats_floats", {"x": np.array([[1.5, 0, 9]], np.float32)}, [FLOAT], opset=2, keys_floats=[1.5, 0.0],
         values_floats=[3.0, 4.0], default_float=-1.0)
    case("LabelEncoder", "no_default", {"x": texts}, [STRING], opset=2, keys_strings=["b"], values_strings=["B"])
    case("LabelEncoder", "no_default_ints", {"x": texts}, [INT64], opset=2, keys_strings=["b"], values_int64s=[3])
    case("LabelEncoder", "empty", {"x": texts[:0]}, [INT64], opset=2, keys_strings=["b"], values_int64s=[3])
    case("OneHotEncoder", "row", {"x": ints[0]}, [FLOAT], cats_int64s=[1, 2, 3], zeros=1)
    case("OneHotEncoder", "words_two_columns", {"x": texts}, [FLOAT], cats_strings=["a", "b", "ü"], zeros=1)
    case("OneHotEncoder", "float64", {"x": ints.astype(np.float64)}, [FLOAT], cats_int64s=[1, 2, 3], zeros=1)
    case("OneHotEncoder", "by_default", {"x": ints}, [FLOAT], cats_int64s=[1, 2, 3])
    odd = np.array([[1, np.nan, 2.5], [-0.5, 1e30, -np.inf]])
    for dtype in (np.float32, np.float64):
        case("OneHotEncoder", f"nan_{np.dtype(dtype).name}", {"x": odd.astype(dtype)}, [FLOAT], cats_int64s=[0, 1, 2], zeros=1)
    case("OneHotEncoder", "least", {"x": odd.astype(np.float32)}, [FLOAT], cats_int64s=[-2 ** 63, 1, 2], zeros=1)
    case("OneHotEncoder", "twice", {"x": ints}, [FLOAT], cats_int64s=[1, 2, 1, 3], zeros=1)
    case("OneHotEncoder", "words_twice", {"x": texts}, [FLOAT], cats_strings=["a", "b", "a", "c"], zeros=1)
    case("CategoryMapper", "to_ints_table", {"x": texts}, [INT64], cats_int64s=[5, 6], cats_strings=["a", "b"])
    case("CategoryMapper", "to_words_table", {"x": ints}, [STRING], cats_int64s=[1, 2], cats_strings=["one", "two"])


def sums(m):
    case, x = m.case, m.floats(6, 3, seed=130)
    line = dict(coefficients=[1.0, 0.5, -1.0], intercepts=[0.1])
    both = dict(coefficients=[-1.0, -0.5, 1.0, 1.0, 0.5, -1.0], intercepts=[-0.1, 0.1])
    case("LinearClassifier", "one_sum_words", {"x": x}, [STRING, FLOAT], classlabels_strings=["no", "yes"], post_transform="LOGISTIC", **line)
    for post in ("LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "NONE"):
        case("LinearClassifier", f"two_{post.lower()}", {"x": x}, BOTH, classlabels_ints=[3, 4], multi_class=1, post_transform=post, **both)
        case("LinearRegressor", f"two_{post.lower()}", {"x": x}, [FLOAT], targets=2, post_transform=post, **both)
    case("LinearClassifier", "zero", {"x": np.zeros((2, 3), np.float32)}, BOTH, classlabels_ints=[3, 4, 5],
         coefficients=[0.0] * 9, intercepts=[0.0] * 3, post_transform="SOFTMAX_ZERO")
    case("LinearClassifier", "nan", {"x": m.holes(6, 3)}, BOTH, classlabels_ints=[3, 4, 5], coefficients=m.rng(131).normal(size=9).tolist(),
         intercepts=[0.0] * 3, post_transform="SOFTMAX")
    case("LinearClassifier", "large", {"x": x * 1000}, BOTH, classlabels_ints=[3, 4, 5], coefficients=m.rng(132).normal(size=9).tolist(),
         intercepts=[0.0] * 3, post_transform="SOFTMAX")
    case("LinearRegressor", "empty", {"x": x[:0]}, [FLOAT], **line)


def vectors(m):
    case, x = m.case, m.floats(7, 2, seed=140)
    draw = m.rng(141)
    uneven = dict(kernel_params=[0.5, 0.1, 3.0], support_vectors=draw.normal(size=12).tolist(), vectors_per_class=[1, 3, 2],
                  coefficients=draw.normal(size=12).tolist(), rho=draw.normal(size=3).tolist(), classlabels_ints=[4, 5, 6])
    proba = dict(prob_a=[-1.0, -0.5, -2.0], prob_b=[0.1, -0.2, 0.3])
    for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        case("SVMClassifier", f"uneven_{kernel.lower()}", {"x": x}, BOTH, kernel_type=kernel, **uneven)
        case("SVMClassifier", f"uneven_proba_{kernel.lower()}", {"x": x}, BOTH, kernel_type=kernel, **uneven, **proba)
    case("SVMClassifier", "float64", {"x": x.astype(np.float64)}, BOTH, kernel_type="RBF", **uneven, **proba)
    case("SVMClassifier", "int64", {"x": (x * 2).astype(np.int64)}, BOTH, kernel_type="RBF", **uneven)
    case("SVMClassifier", "one_row", {"x": x[:1]}, BOTH, kernel_type="RBF", **uneven)
    pair = dict(kernel_params=[0.5, 0.0, 3.0], kernel_type="RBF", support_vectors=draw.normal(size=8).tolist(), vectors_per_class=[2, 2],
                coefficients=[1.0, 0.5, -0.7, -0.8], rho=[0.05], classlabels_strings=["no", "yes"])
    case("SVMClassifier", "pair_words", {"x": x}, [STRING, FLOAT], **pair)
    case("SVMClassifier", "pair_words_proba", {"x": x}, [STRING, FLOAT], prob_a=[-1.5], prob_b=[0.2], **pair)
    case("SVMRegressor", "one_row", {"x": x[:1]}, [FLOAT], kernel_type="RBF", kernel_params=[0.5, 0.0, 3.0], n_supports=2, rho=[0.3],
         support_vectors=[0.1, 0.2, -0.3, 0.4], coefficients=[1.0, -2.0])
    case("SVMRegressor", "empty", {"x": x[:0]}, [FLOAT], kernel_type="LINEAR", kernel_params=[0.5, 0.0, 3.0], n_supports=2, rho=[0.3],
         support_vectors=[0.1, 0.2, -0.3, 0.4], coefficients=[1.0, -2.0])


def add(m):
    for make in (trees, set_trees, columns, names, sums, vectors):
        make(m)
