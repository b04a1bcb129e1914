"""Makes the golden files beside it: tiny models of one operator each, with onnxruntime's answers, in ONNX's own test layout.

    python make.py [OPERATOR ...]         from tests/zoo/requirements.txt
    python make.py --ahead OUT            what onnxruntime answers and the engine does not yet, into OUT

    <operator>/<case>/model.onnx
    <operator>/<case>/test_data_set_0/{input_i,output_i}.pb

The inputs are drawn from a fixed seed and are the corners of the operators' attributes. `REFUSED` names what onnxruntime itself does not
answer. Made with onnx 1.23.2 and onnxruntime 1.32.0. The files are this project's own work, under its licence.
"""
import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import ahead
import core
import corners
import exported
import extremes
import forms
import fourier
import fused
import half
import odd
import rare
import texts
import whole

HERE = pathlib.Path(__file__).parent
FLOAT, DOUBLE, INT64, INT32, STRING = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32,
                                       TensorProto.STRING)
POSTS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
CASES = []
# What onnxruntime refuses or answers with values that it never computed.
REFUSED = {
    "LinearClassifier/one_sum_probit": "PROBIT over one sum of two classes: it reads the scores of other rows",
    "LinearRegressor/double": "no kernel for other types than float",
    "TreeEnsembleRegressor/int64": "no kernel for other types than float and double",
    "Binarizer/int64": "no kernel for other types than float",
    "Binarizer/nan": "an error at the call",
    "Imputer/double": "no kernel for other types than float and int64",
    "OneHotEncoder/int32": "no kernel",
}
AHEAD = {f"{operator}/{name}" for operator, names in ahead.AHEAD.items() for name in names}


def rng(seed=0):
    return np.random.default_rng(seed)


def kind(value):
    return STRING if value.dtype == object else helper.np_dtype_to_tensor_dtype(value.dtype)


def case(operator, name, feeds, outputs, opset=3, domain="ai.onnx.ml", constants=None, core=17, **attributes):
    """One operator over `feeds`; `constants` are inputs that stand in the file."""
    constants = constants or {}
    names = list(feeds) + list(constants)
    node = helper.make_node(operator, names, [f"y{i}" for i in range(len(outputs))], domain=domain, **attributes)
    graph(operator, name, [node], feeds, outputs, opset, constants, core)


def graph(operator, name, nodes, feeds, outputs, opset=3, constants=None, core=17, extra=(), is_open=True):
    """`is_open`: callers choose the number of rows."""
    shape = lambda value: [None, *value.shape[1:]] if is_open and value.ndim else list(value.shape)
    inputs = [helper.make_tensor_value_info(key, kind(value), shape(value))
              for key, value in feeds.items()]
    out = [helper.make_tensor_value_info(f"y{i}", dtype, None) for i, dtype in enumerate(outputs)]
    fixed = [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()]
    made = helper.make_model(helper.make_graph(nodes, operator, inputs, out, fixed), producer_name="tern",
                             opset_imports=[helper.make_opsetid("", core), helper.make_opsetid("ai.onnx.ml", opset),
                                            helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    CASES.append((operator, name, made, feeds))


def floats(*shape, seed=0):
    return rng(seed).normal(size=shape).astype(np.float32)


def words(*rows):
    return np.array(rows, dtype=object)


# --- Forests ---------------------------------------------------------------------------------------------------------

def forest(trees, depth, outputs, leaf, seed=0, modes=("BRANCH_LEQ",), nan=False, complete=False, columns=4, weight=None, grid=False):
    """Random full trees; `leaf` is `class` or `target`. With `grid`, thresholds are whole numbers, so that values tie with them."""
    draw = rng(seed)
    a = {f"nodes_{key}": [] for key in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                                        "falsenodeids", "missing_value_tracks_true")}
    b = {f"{leaf}_{key}": [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        inner = 2 ** depth - 1
        for node in range(2 * inner + 1):
            is_leaf = node >= inner
            a["nodes_treeids"].append(tree)
            a["nodes_nodeids"].append(node)
            a["nodes_featureids"].append(0 if is_leaf else int(draw.integers(columns)))
            a["nodes_values"].append(0.0 if is_leaf else float(np.round(draw.normal()) if grid else draw.normal()))
            a["nodes_modes"].append("LEAF" if is_leaf else str(draw.choice(modes)))
            a["nodes_truenodeids"].append(0 if is_leaf else 2 * node + 1)
            a["nodes_falsenodeids"].append(0 if is_leaf else 2 * node + 2)
            a["nodes_missing_value_tracks_true"].append(0 if is_leaf or not nan else int(draw.integers(2)))
            if is_leaf:
                for output in range(outputs) if complete else [int(draw.integers(outputs))]:
                    b[f"{leaf}_treeids"].append(tree)
                    b[f"{leaf}_nodeids"].append(node)
                    b[f"{leaf}_ids"].append(output)
                    b[f"{leaf}_weights"].append(float(weight(draw) if weight else draw.normal()))
    if not nan:
        del a["nodes_missing_value_tracks_true"]
    return a | b


def holes(rows, columns, seed=3):
    x = floats(rows, columns, seed=seed)
    x[rng(seed).random(x.shape) < 0.2] = np.nan
    return x


def only(attributes, output):
    """The same forest with every leaf weighing this class."""
    return attributes | {"class_ids": [output] * len(attributes["class_ids"])}


def classifiers():
    name, x = "TreeEnsembleClassifier", floats(19, 4, seed=1)
    both = [INT64, FLOAT]
    three = forest(5, 3, 3, "class", seed=2)
    for post in POSTS[:4]:
        case(name, f"three_{post.lower()}", {"x": x}, both, classlabels_int64s=[4, 7, 9], post_transform=post, **three)
    probabilities = forest(4, 2, 3, "class", seed=3, complete=True, weight=lambda draw: draw.random() / 4)
    case(name, "complete", {"x": x}, both, classlabels_int64s=[0, 1, 2], **probabilities)
    case(name, "three_base", {"x": x}, both, classlabels_int64s=[0, 1, 2], base_values=[0.5, -0.25, 0.125], **three)
    case(name, "words", {"x": x}, [STRING, FLOAT], classlabels_strings=["a", "b", "ü"], **three)
    positive = only(forest(6, 3, 2, "class", seed=4, weight=lambda draw: draw.random() / 6), 0)
    mixed = only(forest(6, 3, 2, "class", seed=5), 0)
    for post in POSTS[:4]:
        case(name, f"first_positive_{post.lower()}", {"x": x}, both, classlabels_int64s=[3, 8], post_transform=post, **positive)
        case(name, f"first_mixed_{post.lower()}", {"x": x}, both, classlabels_int64s=[3, 8], post_transform=post, **mixed)
        case(name, f"second_{post.lower()}", {"x": x}, both, classlabels_int64s=[3, 8], post_transform=post, **only(mixed, 1))
    case(name, "first_base", {"x": x}, both, classlabels_int64s=[0, 1], base_values=[0.3], post_transform="LOGISTIC", **mixed)
    case(name, "pair", {"x": x}, both, classlabels_int64s=[0, 1], **forest(5, 3, 2, "class", seed=6))
    case(name, "pair_words", {"x": x}, [STRING, FLOAT], classlabels_strings=["no", "yes"],
         **forest(5, 3, 2, "class", seed=6, complete=True, weight=lambda draw: draw.random() / 5))
    case(name, "nan", {"x": holes(19, 4)}, both, classlabels_int64s=[0, 1, 2], **forest(5, 3, 3, "class", seed=7, nan=True))
    case(name, "empty", {"x": x[:0]}, both, classlabels_int64s=[0, 1, 2], **three)
    for dtype in (np.float64, np.int64, np.int32):
        case(name, np.dtype(dtype).name, {"x": (x * 3).astype(dtype)}, both, classlabels_int64s=[0, 1, 2], **three)


def regressors():
    name, x = "TreeEnsembleRegressor", floats(19, 4, seed=8)
    for mode in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"):
        for tag, nan in (("", False), ("_nan", True)):
            values = np.round(holes(19, 4) if nan else x)
            case(name, f"{mode.lower()}{tag}", {"x": values}, [FLOAT], n_targets=1,
                 **forest(3, 3, 1, "target", seed=9, modes=[f"BRANCH_{mode}"], nan=nan, grid=True))
    mixed = forest(9, 3, 1, "target", seed=10, modes=("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"), nan=True, grid=True)
    case(name, "modes", {"x": np.round(holes(31, 4))}, [FLOAT], n_targets=1, **mixed)
    case(name, "strict_double", {"x": np.round(x).astype(np.float64) + 1e-12}, [FLOAT], n_targets=1, **mixed)
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        case(name, f"{aggregate.lower()}", {"x": x}, [FLOAT], n_targets=1, aggregate_function=aggregate,
             base_values=[0.75], **forest(5, 2, 1, "target", seed=11))
        case(name, f"{aggregate.lower()}_three", {"x": x}, [FLOAT], n_targets=3, aggregate_function=aggregate,
             base_values=[0.5, -1.0, 2.0], **forest(5, 2, 3, "target", seed=12, complete=True))
    for post in POSTS:
        case(name, f"two_{post.lower()}", {"x": x}, [FLOAT], n_targets=2, post_transform=post,
             **forest(3, 2, 2, "target", seed=13, complete=True, weight=lambda draw: draw.random() / 3))
    case(name, "one_probit", {"x": x}, [FLOAT], n_targets=1, post_transform="PROBIT",
         **forest(3, 2, 1, "target", seed=14, weight=lambda draw: draw.random() / 3))
    case(name, "float64", {"x": x.astype(np.float64)}, [FLOAT], n_targets=1, **forest(5, 3, 1, "target", seed=15))
    case(name, "one_row", {"x": x[:1]}, [FLOAT], n_targets=1, **forest(11, 4, 1, "target", seed=16))
    case(name, "empty", {"x": x[:0]}, [FLOAT], n_targets=2, **forest(3, 2, 2, "target", seed=17))
    single = {"nodes_treeids": [0], "nodes_nodeids": [0], "nodes_featureids": [0], "nodes_values": [0.0],
              "nodes_modes": ["LEAF"], "nodes_truenodeids": [0], "nodes_falsenodeids": [0], "target_treeids": [0],
              "target_nodeids": [0], "target_ids": [0], "target_weights": [2.5]}
    case(name, "stump", {"x": x}, [FLOAT], n_targets=1, **single)


# --- Columns and names -----------------------------------------------------------------------------------------------

def columns():
    x = np.array([[-1, -2], [0, 0], [3, -4], [-5, 2]], np.float32)
    case("Scaler", "each", {"x": x}, [FLOAT], offset=[1.0, 2.0], scale=[2.0, 3.0])
    case("Scaler", "one", {"x": x}, [FLOAT], offset=[1.0], scale=[2.0])
    case("Scaler", "cube", {"x": x.reshape(2, 2, 2)}, [FLOAT], offset=[1.0, 2.0], scale=[2.0, 3.0])
    case("Scaler", "nan", {"x": holes(7, 2)}, [FLOAT], offset=[1.0, 2.0], scale=[2.0, 3.0])
    for dtype in (np.float64, np.int64, np.int32):
        case("Scaler", np.dtype(dtype).name, {"x": x.astype(dtype)}, [FLOAT], offset=[0.5, 2.0], scale=[2.0, 3.0])
        case("Normalizer", f"l2_{np.dtype(dtype).name}", {"x": x.astype(dtype)}, [FLOAT], norm="L2")
        case("ArrayFeatureExtractor", np.dtype(dtype).name, {"x": x.astype(dtype)}, [helper.np_dtype_to_tensor_dtype(np.dtype(dtype))],
             constants={"at": np.array([1, 0, 1])})
    for norm in ("MAX", "L1", "L2"):
        case("Normalizer", norm.lower(), {"x": x}, [FLOAT], norm=norm)
    case("Normalizer", "empty", {"x": x[:0]}, [FLOAT], norm="L1")
    case("Binarizer", "half", {"x": np.array([[0.5, 0.50001], [7, -1]], np.float32)}, [FLOAT], threshold=0.5)
    case("Imputer", "nan_each", {"x": holes(9, 3)}, [FLOAT], imputed_value_floats=[7.0, 8.0, 9.0], replaced_value_float=float("nan"))
    case("Imputer", "nan_one", {"x": holes(9, 3)}, [FLOAT], imputed_value_floats=[7.0], replaced_value_float=float("nan"))
    case("Imputer", "zero", {"x": x}, [FLOAT], imputed_value_floats=[7.0, 8.0], replaced_value_float=0.0)
    case("Imputer", "other_count", {"x": holes(9, 2)}, [FLOAT], imputed_value_floats=[7.0, 8.0, 9.0], replaced_value_float=float("nan"))
    case("Imputer", "ints", {"x": x.astype(np.int64)}, [INT64], imputed_value_int64s=[7, 8], replaced_value_int64=0)
    case("ArrayFeatureExtractor", "floats", {"x": x}, [FLOAT], constants={"at": np.array([[1], [0]])})
    case("ArrayFeatureExtractor", "cube", {"x": x.reshape(2, 2, 2)}, [FLOAT], constants={"at": np.array([1])})
    case("ArrayFeatureExtractor", "words", {"x": words(["a", "b"], ["c", "d"])}, [STRING], constants={"at": np.array([1, 1, 0])})
    case("FeatureVectorizer", "whole", {"x": x, "z": x[:, :1]}, [FLOAT], inputdimensions=[2, 1])
    case("FeatureVectorizer", "wider", {"x": x, "z": x[:, :1]}, [FLOAT], inputdimensions=[3, 1])
    case("FeatureVectorizer", "narrower", {"x": x, "z": x}, [FLOAT], inputdimensions=[1, 2])
    case("FeatureVectorizer", "ints", {"x": x.astype(np.int64), "z": x.astype(np.int64)}, [FLOAT], inputdimensions=[2, 2])


def names():
    ints, strings = np.array([[1], [2], [9]]), words(["b"], ["a"], ["z"])
    case("OneHotEncoder", "ints", {"x": ints}, [FLOAT], cats_int64s=[1, 2], zeros=1)
    case("OneHotEncoder", "strict", {"x": ints[:2]}, [FLOAT], cats_int64s=[2, 1], zeros=0)
    case("OneHotEncoder", "words", {"x": strings}, [FLOAT], cats_strings=["a", "b", "c"], zeros=1)
    case("OneHotEncoder", "floats", {"x": np.array([[1.7], [2.0]], np.float32)}, [FLOAT], cats_int64s=[1, 2], zeros=1)
    case("OneHotEncoder", "two_columns", {"x": np.array([[1, 2], [2, 9]])}, [FLOAT], cats_int64s=[1, 2], zeros=1)
    case("OneHotEncoder", "empty", {"x": ints[:0]}, [FLOAT], cats_int64s=[1, 2], zeros=1)
    odd = np.array([1, np.nan, 2, -0.0], np.float32)
    case("LabelEncoder", "classes_to_ints", {"x": words("a", "z")}, [INT64], opset=1, classes_strings=["b", "a"], default_int64=-7)
    case("LabelEncoder", "classes_to_words", {"x": np.array([0, 5])}, [STRING], opset=1, classes_strings=["b", "a"], default_string="?")
    case("LabelEncoder", "floats_ints", {"x": odd}, [INT64], opset=2, keys_floats=[1.0, float("nan"), 0.0], values_int64s=[10, 20, 30])
    case("LabelEncoder", "nan_named", {"x": odd}, [INT64], opset=4, keys_floats=[1.0, float("nan"), 0.0], values_int64s=[10, 20, 30])
    case("LabelEncoder", "words_ints", {"x": strings}, [INT64], opset=2, keys_strings=["a", "b"], values_int64s=[5, 6], default_int64=-3)
    case("LabelEncoder", "words_words", {"x": strings}, [STRING], opset=2, keys_strings=["a", "b"], values_strings=["x", "y"])
    case("LabelEncoder", "words_floats", {"x": strings}, [FLOAT], opset=2, keys_strings=["a", "b"], values_floats=[1.5, 2.5], default_float=9.5)
    case("LabelEncoder", "ints_words", {"x": ints}, [STRING], opset=2, keys_int64s=[1, 2], values_strings=["x", "y"], default_string="none")
    case("LabelEncoder", "ints_floats", {"x": ints}, [FLOAT], opset=2, keys_int64s=[1, 2], values_floats=[1.5, 2.5])
    case("LabelEncoder", "ints_ints", {"x": ints}, [INT64], opset=2, keys_int64s=[1, 2], values_int64s=[5, 6])
    case("LabelEncoder", "twice", {"x": ints}, [INT64], opset=2, keys_int64s=[1, 1], values_int64s=[5, 6])
    case("LabelEncoder", "doubles", {"x": np.array([1.5, np.nan, 7])}, [DOUBLE], opset=4,
         keys_tensor=numpy_helper.from_array(np.array([1.5, np.nan])), values_tensor=numpy_helper.from_array(np.array([0.25, 0.5])),
         default_tensor=numpy_helper.from_array(np.array([-1.0])))
    case("CategoryMapper", "to_ints", {"x": words("a", "q")}, [INT64], cats_int64s=[5, 6], cats_strings=["a", "b"], default_int64=-9)
    case("CategoryMapper", "to_words", {"x": np.array([6, 9])}, [STRING], cats_int64s=[5, 6], cats_strings=["a", "b"], default_string="?")


# --- Sums and vectors ------------------------------------------------------------------------------------------------

def sums():
    x = floats(6, 3, seed=20)
    for post in POSTS:
        if post != "PROBIT":
            case("LinearClassifier", f"one_sum_{post.lower()}", {"x": x}, [INT64, FLOAT], coefficients=[1.0, 0.5, -1.0],
                 intercepts=[0.1], classlabels_ints=[7, 9], post_transform=post)
        weights = (rng(21).random(9) / 9).tolist() if post == "PROBIT" else rng(21).normal(size=9).tolist()
        rows = np.abs(x) / 9 if post == "PROBIT" else x
        case("LinearClassifier", f"three_{post.lower()}", {"x": rows}, [INT64, FLOAT], coefficients=weights,
             intercepts=[0.1, 0.2, 0.3], classlabels_ints=[7, 8, 9], multi_class=1, post_transform=post)
        case("LinearRegressor", f"three_{post.lower()}", {"x": rows}, [FLOAT], coefficients=weights, intercepts=[0.1, 0.2, 0.3],
             targets=3, post_transform=post)
    case("LinearClassifier", "two_words", {"x": x}, [STRING, FLOAT], coefficients=[1.0, 0.5, -1.0, -1.0, 0.25, 2.0],
         intercepts=[0.1, 0.0], classlabels_strings=["no", "yes"], post_transform="SOFTMAX")
    case("LinearClassifier", "nine", {"x": x}, [INT64, FLOAT], coefficients=rng(22).normal(size=27).tolist(),
         intercepts=[0.0] * 9, classlabels_ints=list(range(9)))
    case("LinearClassifier", "empty", {"x": x[:0]}, [INT64, FLOAT], coefficients=[1.0] * 6, intercepts=[0.0, 1.0], classlabels_ints=[0, 1])
    for dtype in (np.float64, np.int64, np.int32):
        case("LinearClassifier", np.dtype(dtype).name, {"x": (x * 3).astype(dtype)}, [INT64, FLOAT],
             coefficients=[1.0, 0.5, -1.0, -1.0, 0.25, 2.0], intercepts=[0.1, 0.0], classlabels_ints=[0, 1])
    case("LinearRegressor", "one", {"x": x}, [FLOAT], coefficients=[1.0, 0.5, -1.0], intercepts=[0.1])
    case("LinearRegressor", "no_intercept", {"x": x}, [FLOAT], coefficients=[1.0, 0.5, -1.0])


def vectors():
    x = floats(7, 2, seed=30)

    def pairs(classes, proba, seed, **more):
        draw, total, duels = rng(seed), 2 * classes, classes * (classes - 1) // 2
        made = dict(kernel_params=[0.5, 0.1, 2.0], support_vectors=draw.normal(size=2 * total).tolist(),
                    coefficients=draw.normal(size=(classes - 1) * total).tolist(), vectors_per_class=[2] * classes,
                    rho=draw.normal(size=duels).tolist(), classlabels_ints=[10 + i for i in range(classes)], kernel_type="RBF")
        if proba:
            made |= dict(prob_a=(-np.abs(draw.normal(size=duels))).tolist(), prob_b=draw.normal(size=duels).tolist())
        return made | more

    name, both = "SVMClassifier", [INT64, FLOAT]
    for post in POSTS[:3]:
        case(name, f"two_{post.lower()}", {"x": x}, both, **pairs(2, False, 31, post_transform=post))
        case(name, f"two_proba_{post.lower()}", {"x": x}, both, **pairs(2, True, 32, post_transform=post))
        case(name, f"three_{post.lower()}", {"x": x}, both, **pairs(3, False, 33, post_transform=post))
        case(name, f"four_proba_{post.lower()}", {"x": x}, both, **pairs(4, True, 34, post_transform=post))
        for classes in (2, 3):
            coefficients = rng(35 + classes).normal(size=2 * classes)
            for tag, weights in (("", coefficients), ("_positive", np.abs(coefficients))):
                case(name, f"sums_{classes}{tag}_{post.lower()}", {"x": x}, both, coefficients=weights.tolist(), rho=[0.1],
                     kernel_params=[0.0, 0.0, 0.0], classlabels_ints=[10 + i for i in range(classes)], kernel_type="LINEAR",
                     post_transform=post)
    for kernel in ("LINEAR", "POLY", "SIGMOID"):
        case(name, f"three_{kernel.lower()}", {"x": x}, both, **pairs(3, False, 36, kernel_type=kernel))
    strings = pairs(3, True, 37)
    del strings["classlabels_ints"]
    case(name, "words", {"x": x}, [STRING, FLOAT], classlabels_strings=["a", "b", "c"], **strings)
    case(name, "double", {"x": x.astype(np.float64)}, both, **pairs(2, False, 38))
    case(name, "empty", {"x": x[:0]}, both, **pairs(2, False, 38))
    for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        for one_class in (0, 1):
            case("SVMRegressor", f"{kernel.lower()}_{one_class}", {"x": x}, [FLOAT], kernel_type=kernel, kernel_params=[0.5, 0.1, 2.0],
                 support_vectors=rng(39).normal(size=6).tolist(), coefficients=[1.0, -2.0, 0.5], n_supports=3, rho=[0.3],
                 one_class=one_class)
    case("SVMRegressor", "sums", {"x": x}, [FLOAT], kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0], coefficients=[1.0, -2.0],
         n_supports=0, rho=[0.3])


def zip_map():
    """The expected output is the plain tensor: that is what a device serves."""
    x = floats(5, 3, seed=40)
    plain = helper.make_node("Softmax", ["x"], ["y0"])
    zipped = [helper.make_node("Softmax", ["x"], ["p"]),
              helper.make_node("ZipMap", ["p"], ["y0"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])]
    graph("ZipMap", "ints", [plain], {"x": x}, [FLOAT])
    operator, name, reference, feeds = CASES.pop()
    made = onnx.ModelProto()
    made.CopyFrom(reference)
    del made.graph.node[:]
    made.graph.node.extend(zipped)
    element = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    made.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(element))
    CASES.append((operator, name, made, feeds, reference))


def write(here, operator, name, model, feeds, reference=None):
    # With several threads, what DynamicQuantizeLSTM quantises together depends on how many there are.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession((reference or model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers = session.run(None, feeds)
    data = here / operator / name / "test_data_set_0"
    data.mkdir(parents=True)
    (data.parent / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    for i, (key, value) in enumerate(feeds.items()):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(value, key).SerializeToString())
    for i, value in enumerate(answers):
        value = np.asarray(value)
        value = value.astype(object) if value.dtype.kind in "UO" else value
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(value, f"y{i}").SerializeToString())


def main(wanted, here=HERE):
    behind = wanted[:1] == ["--ahead"]
    here, wanted = (pathlib.Path(wanted[1]), []) if behind else (here, wanted)
    for make in (classifiers, regressors, columns, names, sums, vectors, zip_map):
        make()
    for module in (corners, core, exported, extremes, forms, fourier, fused, half, odd, rare, texts, whole):
        module.add(sys.modules[__name__])
        REFUSED.update(module.REFUSED)
    unknown = AHEAD - {f"{operator}/{name}" for operator, name, *_ in CASES}
    assert not unknown, unknown
    chosen = [case for case in CASES if (f"{case[0]}/{case[1]}" in AHEAD) == behind and (not wanted or case[0] in wanted)]
    made = {operator for operator, *_ in chosen}
    for operator in made:
        shutil.rmtree(here / operator, ignore_errors=True)
    for operator, name, *rest in chosen:
        try:
            write(here, operator, name, *rest)
        except Exception as error:
            print(f"{operator}/{name}: {str(error).strip()[-200:]}")
            raise
    print(f"{len(chosen)} cases of {len(made)} operators; onnxruntime refuses {len(REFUSED)} others, the engine is behind in {len(AHEAD)}")


if __name__ == "__main__":
    main(sys.argv[1:])
