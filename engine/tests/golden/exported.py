"""Forms that exporters of PyTorch and TensorFlow were found to write: loops, and operators in shapes that single cases had not had."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, INT32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
REFUSED = {}


def node(operator, inputs, outputs, domain="", **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), domain=domain, **attributes)


def body(nodes, inputs, outputs, constants=None):
    """A body of a loop: the number of the round and the condition, then states by name and type."""
    value = lambda name, dtype, shape=None: helper.make_tensor_value_info(name, dtype, shape)
    first = [value("i", INT64, []), value("go", BOOL, [])]
    fixed = [numpy_helper.from_array(np.asarray(constant), name) for name, constant in (constants or {}).items()]
    return helper.make_graph(nodes, "body", first + [value(*each) for each in inputs], [value(*each) for each in outputs], fixed)


def loops(m):
    """As tf2onnx writes recurrent layers, and PyTorch's tracer and scripts loops over a sequence."""
    x, h = m.floats(3, 5, 4, seed=700), np.zeros((3, 6), np.float32)
    weights = {"w": m.floats(4, 6, seed=701), "r": m.floats(6, 6, seed=702)}
    step = [node("Gather", "steps at", "x_t"), node("MatMul", "x_t w_in", "a"), node("MatMul", "h_in r_in", "b"), node("Add", "a b", "c"),
            node("Tanh", "c", "h_out"), node("Identity", "h_out", "seen"), node("Add", "at one", "at_out"),
            node("Cast", "at_out", "as_float", to=FLOAT), node("Less", "as_float limit", "more")]
    states = [("at", INT32, []), ("h_in", FLOAT, ["rows", 6]), ("w_in", FLOAT, [4, 6]), ("r_in", FLOAT, [6, 6])]
    given = [("more", BOOL), ("at_out", INT32), ("h_out", FLOAT), ("w_in", FLOAT), ("r_in", FLOAT), ("seen", FLOAT)]
    for name, limit, most in (("counted", 5., 5), ("stops", 2., 5), ("most", 9., 4)):
        inner = body(step, states, given, {"one": np.int32(1), "limit": np.float32(limit)})
        nodes = [node("Transpose", "x", "steps", perm=[1, 0, 2]), node("Shape", "x", "shape"), node("Slice", "shape zero one", "rows"),
                 node("Concat", "rows six", "begin", axis=0), node("Expand", "nought begin", "h"),
                 node("Loop", "most go zero_at h w r", "n0 y0 n1 n2 y1", body=inner)]
        fixed = {"zero": np.array([0]), "one": np.array([1]), "six": np.array([6]), "nought": np.float32(0), "most": np.array(most),
                 "go": np.array(True), "zero_at": np.int32(0)}
        m.graph("Loop", f"recurrent_{name}", nodes, {"x": x}, [FLOAT, FLOAT], constants=fixed | weights)
    inner = body([node("Gather", "steps i", "x_t"), node("ReduceSum", "x_t axis", "sum", keepdims=0), node("Identity", "go", "more")], [],
                 [("more", BOOL), ("sum", FLOAT)], {"axis": np.array([1])})
    nodes = [node("Transpose", "x", "steps", perm=[1, 0, 2]), node("Shape", "x", "shape"), node("Gather", "shape second", "most"),
             node("Loop", "most go", "y0", body=inner)]
    m.graph("Loop", "of_sequence", nodes, {"x": x}, [FLOAT], constants={"second": np.array(1), "go": np.array(True)})
    halves = [node("Mul", "v half", "v_out"), node("ReduceMax", "v_out", "top", keepdims=0), node("Greater", "top limit", "more")]
    inner = body(halves, [("v", FLOAT, ["rows", 6])], [("more", BOOL), ("v_out", FLOAT)], {"half": np.float32(.5), "limit": np.float32(.1)})
    for name, most in (("values", ""), ("values_most", "most")):
        m.graph("Loop", name, [node("Loop", f"{most} go x", "y0", body=inner)], {"x": np.abs(m.floats(3, 6, seed=703))}, [FLOAT],
                constants={"go": np.array(True), "most": np.array(2)} if most else {"go": np.array(True)})
    counts = [node("Cast", "i", "i_f", to=FLOAT), node("Add", "v i_f", "v_out"), node("Identity", "yes", "more")]
    inner = body(counts, [("v", FLOAT, ["rows", 6])], [("more", BOOL), ("v_out", FLOAT)], {"yes": np.array(True)})
    m.graph("Loop", "fixed", [node("Loop", "most  x", "y0", body=inner)], {"x": h + 1}, [FLOAT], constants={"most": np.array(3)})



def scans(m):
    """Frames of a signal that overlap: the body bears the outer names of sizes, and reads what it gives."""
    value = lambda name, shape: helper.make_tensor_value_info(name, FLOAT, shape)
    cut = [node("Concat", "before now", "frame", axis=-1), node("Slice", "frame two far one one", "after")]
    fixed = [numpy_helper.from_array(np.array(constant), name) for name, constant in (("two", [2]), ("far", [2**63 - 1]), ("one", [1]))]
    for name, batch in (("named_rows", "N"), ("open_rows", None), ("noted_rows", 3)):
        inner = helper.make_graph(cut, "body", [value("before", [batch, 3]), value("now", [batch, 2])],
                                  [value("after", [batch, 3]), value("frame", [batch, 5])], fixed)
        scan = node("Scan", "first x", "y0 y1", body=inner, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1])
        m.graph("Scan", name, [scan], {"first": m.floats(3, 3, seed=720), "x": m.floats(3, 4, 2, seed=721)}, [FLOAT, FLOAT])


def states(m):
    """An LSTM that gives its memory and begins with constants, as PyTorch writes it, over more than one sequence."""
    weights = {"w": m.floats(1, 20, 4, seed=710), "r": m.floats(1, 20, 5, seed=711), "b": m.floats(1, 40, seed=712)}
    zeros = [node("Shape", "x", "shape"), node("Slice", "shape zero one", "rows"), node("Concat", "one rows five", "begin", axis=0),
             node("ConstantOfShape", "begin", "h"), node("ConstantOfShape", "begin", "c"), node("Transpose", "x", "steps", perm=[1, 0, 2])]
    fixed = {"zero": np.array([0]), "one": np.array([1]), "five": np.array([5])}
    for name, inputs in (("one_constant", "h h"), ("two_constants", "h c"), ("no_state", " c"), ("same", "s s")):
        more = [node("ReduceMean", "steps", "top", axes=[0, 2], keepdims=0), node("Unsqueeze", "top ends", "wide"), node("Add", "h wide", "s")]
        nodes = [*zeros, *(more if name == "same" else []), node("LSTM", f"steps w r b  {inputs}", "y0 y1 y2", hidden_size=5)]
        m.graph("LSTM", f"memory_{name}", nodes, {"x": m.floats(3, 7, 4, seed=713)}, [FLOAT] * 3, constants=fixed | weights | {"ends": np.array([0, 2])})


def others(m):
    x = m.floats(4, 3, seed=720)
    modulo = lambda name, feeds, dtype, **more: m.graph("Mod", name, [node("Mod", "x z", "y0", **more)], feeds, [dtype], is_open=False)
    for name, a, b in (("column", (5, 1), (5, 4)), ("row", (1, 4), (5, 4)), ("number", (), (5, 4)), ("both", (5, 1), (1, 4))):
        floats = {"x": m.floats(*a, seed=721) if a else np.array(2.5, np.float32), "z": m.floats(*b, seed=722)}
        modulo(f"floats_{name}", floats, FLOAT, fmod=1)
        whole = {key: np.asarray(np.where(np.round(value * 9) == 0, 4, np.round(value * 9))).astype(np.int64) for key, value in floats.items()}
        modulo(f"whole_{name}", whole, INT64)
        modulo(f"whole_c_{name}", whole, INT64, fmod=1)
    for dtype in (np.int8, np.uint8, np.int32):
        feeds = {"x": np.array([5, 7, 100, 3], dtype), "z": np.array([3, 2, 7, 9], dtype)}
        modulo(np.dtype(dtype).name, feeds, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    for mode in ("reflect", "edge"):
        m.case("Pad", f"{mode}_with_value", {"x": x}, [FLOAT], domain="", constants={"p": np.array([1, 0, 1, 1]), "v": np.float32(1)}, mode=mode)
    truths = {"x": x > 0, "z": m.floats(3, seed=723) > 0}
    m.graph("Equal", "truths", [node("Equal", "x z", "y0")], truths, [BOOL], is_open=False)
    m.case("Equal", "truth", {"x": truths["x"]}, [BOOL], domain="", constants={"z": np.array([True])})
    m.case("Equal", "words_of_file", {"x": m.words(["a", "b"], ["c", "a"])}, [BOOL], domain="", core=19, constants={"z": m.words("a", "a")})
    m.case("Squeeze", "all_opset11", {"x": m.floats(3, 1, 4, 1, seed=724)}, [FLOAT], domain="", core=11)
    counted = [node("Range", "from to by", "r", domain="com.microsoft"), node("Cast", "r", "f", to=FLOAT), node("Add", "x f", "y0")]
    m.graph("Range", "of_onnxruntime", counted, {"x": x}, [FLOAT], constants={"from": np.int32(1), "to": np.int32(7), "by": np.int32(2)})
    signal = [node("Unsqueeze", "x one", "wide"), node("Transpose", "wide", "image", perm=[0, 3, 1, 2]),
              node("Conv", "image w", "y", strides=[2, 2], kernel_shape=[1, 3], group=4, pads=[0, 1, 0, 1]), node("Squeeze", "y two", "y0")]
    m.graph("Conv", "steps_over_added", signal, {"x": m.floats(2, 9, 4, seed=725)}, [FLOAT],
            constants={"one": np.array([1]), "two": np.array([2]), "w": m.floats(4, 1, 1, 3, seed=726)})
    sizes = [node("Shape", "x", "shape"), node("ReduceMin", "shape", "least", keepdims=0), node("Range", "zero least one", "y0")]
    m.graph("ReduceMin", "of_shape", sizes, {"x": x}, [INT64], constants={"zero": np.array(0), "one": np.array(1)})


def no_numbers(m):
    """What is no number, where nearest neighbours weigh by distance and support vectors are asked for probabilities."""
    x = m.floats(4, 3, seed=730)
    x[1, 0], x[2, 1] = np.nan, np.inf
    for operator in ("Max", "Min"):
        for dtype, kind in ((np.float32, FLOAT), (np.float64, TensorProto.DOUBLE)):
            tag = np.dtype(dtype).name
            m.case(operator, f"nan_{tag}", {"x": x.astype(dtype)}, [kind], domain="", constants={"z": np.array(.1, dtype)})
            m.case(operator, f"nan_first_{tag}", {"x": x.astype(dtype)}, [kind], domain="", constants={"z": x[3:].astype(dtype) * np.nan})
        three = [node(operator, "z x v", "y0")]
        m.graph(operator, "three", three, {"x": x}, [FLOAT], constants={"z": m.floats(3, seed=731), "v": np.array([[np.nan], [0], [1], [-1]], np.float32)},
                is_open=False)
        for dtype in (np.int32, np.int64, np.uint8, np.int8):
            number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            m.case(operator, np.dtype(dtype).name, {"x": np.arange(12).reshape(4, 3).astype(dtype)}, [number], domain="",
                   constants={"z": np.array([5, 6, 7], dtype)})
    for classes in (2, 3):
        draw, total, duels = m.rng(732), 2 * classes, classes * (classes - 1) // 2
        m.case("SVMClassifier", f"nan_{classes}", {"x": x[:, :2].copy()}, [INT64, FLOAT], kernel_type="RBF", kernel_params=[.5, 0., 3.],
               support_vectors=draw.normal(size=2 * total).tolist(), coefficients=draw.normal(size=(classes - 1) * total).tolist(),
               vectors_per_class=[2] * classes, rho=draw.normal(size=duels).tolist(), classlabels_ints=list(range(classes)),
               prob_a=(-np.abs(draw.normal(size=duels))).tolist(), prob_b=draw.normal(size=duels).tolist())


def add(m):
    loops(m)
    scans(m)
    states(m)
    others(m)
    no_numbers(m)
