"""Core and com.microsoft operators in the forms that exporters of tables, nets and quantisers write."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, INT64, STRING, UINT8, INT8 = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING,
                                             TensorProto.UINT8, TensorProto.INT8)
REFUSED = {"TopK/words": "no kernel for strings", "ArgMax/words": "no kernel for strings"}


def node(operator, inputs, outputs, domain="", **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), domain=domain, **attributes)


def choices(m):
    x = np.array([[3, 1, 3, 2], [0, 0, 0, 0], [-1, -2, 5, 5]], np.float32)
    for largest in (0, 1):
        for name, value in (("floats", x), ("ints", x.astype(np.int64)), ("doubles", x.astype(np.float64))):
            m.case("TopK", f"{name}_{largest}", {"x": value}, [m.kind(value), INT64], domain="", constants={"k": np.array([3])},
                   largest=largest, axis=1)
    m.case("TopK", "first_axis", {"x": x}, [FLOAT, INT64], domain="", constants={"k": np.array([2])}, axis=0)
    for operator in ("ArgMax", "ArgMin"):
        for last in (0, 1):
            for keep in (0, 1):
                m.case(operator, f"last_{last}_{keep}", {"x": x}, [INT64], domain="", axis=1, keepdims=keep, select_last_index=last)
        m.case(operator, "float64", {"x": x.astype(np.float64)}, [INT64], domain="", axis=-1)
        m.case(operator, "int32", {"x": x.astype(np.int32)}, [INT64], domain="", axis=-1)
    large = np.array([[-1200, -1201, -1300], [900, 3, 901], [0, -np.inf, 0]], np.float32)
    for keep in (0, 1):
        m.case("ReduceLogSumExp", f"large_{keep}", {"x": large}, [FLOAT], domain="", axes=[1], keepdims=keep)
    m.case("ReduceLogSumExp", "float64", {"x": large.astype(np.float64)}, [DOUBLE], domain="", axes=[1])
    m.case("ReduceLogSumExp", "opset18", {"x": large}, [FLOAT], domain="", core=18, constants={"axes": np.array([1])}, keepdims=0)
    odd = np.array([[1, np.nan, 2, 0], [np.nan, 1, 2, 0], [1, 2, 0, np.nan], [np.nan] * 4, [-np.inf] * 4, [3, np.nan, 3, 1]], np.float32)
    deep, wide = m.floats(3, 4, 5, seed=204), m.floats(4, 200, seed=205)
    for axis in (0, 1):
        for largest in (0, 1):
            m.case("TopK", f"odd_{axis}_{largest}", {"x": odd}, [FLOAT, INT64], domain="", constants={"k": np.array([3])}, axis=axis,
                   largest=largest)
        for operator in ("ArgMax", "ArgMin"):
            m.case(operator, f"odd_{axis}", {"x": odd}, [INT64], domain="", axis=axis)
        m.case("ReduceMax", f"odd_{axis}", {"x": odd}, [FLOAT], domain="", axes=[axis])
    # Along the last axis it depends on how vectors fall.
    m.case("ReduceMin", "odd_0", {"x": odd}, [FLOAT], domain="", axes=[0])
    m.case("TopK", "middle", {"x": deep}, [FLOAT, INT64], domain="", constants={"k": np.array([2])}, axis=1)
    m.case("TopK", "all", {"x": wide}, [FLOAT, INT64], domain="", constants={"k": np.array([200])}, axis=1)
    m.case("TopK", "none", {"x": wide}, [FLOAT, INT64], domain="", constants={"k": np.array([0])}, axis=1)
    far = np.array([[2**33, 5, -7], [2**51, 2**51, 2**51], [-1, -2, -3]])
    for operator in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"):
        if operator == "ReduceProd":  # beyond their bits onnxruntime says the greatest there is, here they wrap
            far = np.array([[2**9, 5, -7], [2**7, 2**3, 3], [-1, -2, -3]])
        for name, value in (("deep", deep), ("deep_float64", deep.astype(np.float64)), ("far", far), ("wide", wide),
                            ("int32", far.astype(np.int32))):
            for axes in ([0], [1], [0, 1]):
                made = {"constants": {"axes": np.array(axes)}} if operator == "ReduceSum" else {"axes": axes}
                at = "".join(map(str, axes))
                m.case(operator, f"{name}_{at}", {"x": value}, [m.kind(value)], domain="", keepdims=0, **made)
        for name, value in (("deep", deep), ("far", np.stack([far, far * 3, -far]) // 16)):
            made = {"constants": {"axes": np.array([0, 2])}} if operator == "ReduceSum" else {"axes": [0, 2]}
            m.case(operator, f"{name}_apart", {"x": value}, [m.kind(value)], domain="", **made)
    title = lambda name, *shape: helper.make_tensor_value_info(name, INT64, shape)
    branches = [helper.make_graph([node("ReduceSum", "x", "a", keepdims=0)], "yes", [], [title("a")]),
                helper.make_graph([node("ReduceMax", "x", "b", keepdims=0)], "no", [], [title("b")])]
    m.graph("If", "of_far_sums", [node("If", "c", "y0", then_branch=branches[0], else_branch=branches[1])],
            {"x": far, "c": np.array(True)}, [INT64])
    state = lambda name: helper.make_tensor_value_info(name, FLOAT, [1])
    body = helper.make_graph([node("ReduceSum", "row", "sum", keepdims=0), node("Neg", "turned", "kept")], "rows",
                             [state("turned"), title("row", 3)], [state("kept"), title("sum")])
    m.graph("Scan", "far_sums", [node("Scan", "one x", "y0 y1", num_scan_inputs=1, body=body)], {"x": far}, [FLOAT, INT64],
            constants={"one": np.array([1], np.float32)})
    least = np.array([[-np.inf, 0, 1, 2], [1000, -1000, 999, 0], [-np.inf] * 4], np.float32)
    for operator in ("Softmax", "LogSoftmax"):
        for name, value in (("least", least), ("deep", deep), ("wide", wide)):
            for axis in range(value.ndim):
                m.case(operator, f"{name}_{axis}", {"x": value}, [FLOAT], domain="", axis=axis)
        m.case(operator, "opset11", {"x": deep}, [FLOAT], domain="", core=11)


def loops(m):
    """Distances by Scan, as skl2onnx writes them for nearest neighbours, and branches on what is known."""
    x, known = m.floats(5, 3, seed=201), m.floats(4, 3, seed=202)
    squares = helper.make_node("ReduceSumSquare", ["d"], ["sq"], axes=[1], keepdims=0)
    sums = node("ReduceSum", "abs axes", "row", keepdims=0)
    axes = numpy_helper.from_array(np.array([1]), "axes")
    ways = {"squared": ([squares], "sq", []), "euclidean": ([squares, node("Sqrt", "sq", "row")], "row", []),
            "manhattan": ([node("Abs", "d", "abs"), sums], "row", [axes]),
            "axes_given": ([node("ReduceSumSquare", "d axes", "row", keepdims=0)], "row", [axes]),
            "running": ([node("Abs", "d", "abs"), helper.make_node("ReduceMax", ["abs"], ["row"], axes=[1], keepdims=0)], "row", []),
            "squared_twice": ([squares, node("Add", "sq sq", "row")], "row", []), "squared_kept": ([squares], "sq", [])}
    for name, (steps, row, fixed) in ways.items():
        body = helper.make_graph([node("Identity", "points", "kept"), node("Sub", "points one", "d"), *steps], "row",
                                 [helper.make_tensor_value_info("points", FLOAT, [None, 3]), helper.make_tensor_value_info("one", FLOAT, [3])],
                                 [helper.make_tensor_value_info("kept", FLOAT, [None, 3]), helper.make_tensor_value_info(row, FLOAT, [None])], fixed)
        outputs = "y0 y1" if name == "squared_kept" else "left y0"
        nodes = [node("Scan", "x known", outputs, num_scan_inputs=1, body=body)]
        m.graph("Scan", name, nodes, {"x": x}, [FLOAT] * outputs.count("y"), constants={"known": known},
                core=18 if name == "axes_given" else 17)
    for name, points, one in (("one_column", [None, 3], [1]), ("cube", [None, 2, 3], [2, 3])):
        body = helper.make_graph([node("Identity", "points", "kept"), node("Sub", "points one", "d"), squares], "row",
                                 [helper.make_tensor_value_info("points", FLOAT, points), helper.make_tensor_value_info("one", FLOAT, one)],
                                 [helper.make_tensor_value_info("kept", FLOAT, points), helper.make_tensor_value_info("sq", FLOAT, None)])
        m.graph("Scan", name, [node("Scan", "x known", "left y0", num_scan_inputs=1, body=body)], {"x": m.floats(5, *points[1:], seed=206)},
                [FLOAT], constants={"known": m.floats(4, *one, seed=207)})
    for name, value in (("true", True), ("false", False)):
        scalar = lambda title: helper.make_tensor_value_info(title, FLOAT, None)
        yes = helper.make_graph([node("Relu", "x", "a")], "yes", [], [scalar("a")])
        no = helper.make_graph([node("Neg", "x", "n"), node("Unsqueeze", "n zero", "b")], "no", [], [scalar("b")])
        branch = node("If", "c", "y0", then_branch=yes, else_branch=no)
        fixed = {"c": np.array(value), "zero": np.array([0])}
        m.graph("If", f"constant_{name}", [branch], {"x": x}, [FLOAT], constants=fixed)
    scalar = lambda title: helper.make_tensor_value_info(title, FLOAT, None)
    taken = [helper.make_graph([node(kind, "x", title)], title, [], [scalar(title)]) for kind, title in (("Relu", "a"), ("Neg", "b"))]
    m.graph("If", "of_a_value", [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"),
            node("If", "c", "y0", then_branch=taken[0], else_branch=taken[1])], {"x": x}, [FLOAT], constants={"zero": np.array(0, np.float32)})
    fixed = [helper.make_graph([helper.make_node("Constant", [], [title], value=numpy_helper.from_array(np.array([value], np.float32)))], title,
                               [], [scalar(title)]) for value, title in ((1, "a"), (2, "b"))]
    for sign in (1, -1):
        m.graph("If", f"of_constants_{sign}", [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"),
                node("If", "c", "k", then_branch=fixed[0], else_branch=fixed[1]), node("Add", "k one", "y0")], {"x": np.abs(x) * sign}, [FLOAT],
                constants={"zero": np.array(0, np.float32), "one": np.array(1, np.float32)})
    same = node("Equal", "r three", "c")
    squeezed = helper.make_graph([node("Squeeze", "z one", "a")], "yes", [], [helper.make_tensor_value_info("a", FLOAT, None)])
    kept = helper.make_graph([node("Identity", "z", "b")], "no", [], [helper.make_tensor_value_info("b", FLOAT, None)])
    nodes = [node("Unsqueeze", "x one", "z"), node("Shape", "z", "s"), node("Gather", "s one", "g", axis=0), node("Squeeze", "g zero", "r"),
             same, node("If", "c", "y0", then_branch=squeezed, else_branch=kept)]
    m.graph("If", "of_a_shape", nodes, {"x": x}, [FLOAT], constants={"one": np.array([1]), "zero": np.array([0]), "three": np.array(1)})


def shapes(m):
    """Shapes, axes and bounds as inputs that stand in the file, or are computed from a shape."""
    x = m.floats(4, 6, seed=210)
    for name, operator, fixed in (
            ("Reshape", "Reshape", {"to": [0, 2, -1]}), ("Expand", "Expand", {"to": [3, 4, 6]}), ("Tile", "Tile", {"by": [1, 3]}),
            ("Slice", "Slice", {"from": [5], "to": [-7], "axes": [1], "by": [-2]}), ("Unsqueeze", "Unsqueeze", {"axes": [0, -1]}),
            ("Pad", "Pad", {"by": [0, 1, 0, 2]}), ("ReduceSum", "ReduceSum", {"axes": [1]}), ("CumSum", "CumSum", {"axis": [1]})):
        m.case(operator, "constant", {"x": x}, [FLOAT], domain="", constants={key: np.array(value) for key, value in fixed.items()})
    for name, flags in (("exclusive", {"exclusive": 1}), ("reverse", {"reverse": 1}), ("both", {"exclusive": 1, "reverse": 1})):
        m.case("CumSum", name, {"x": x}, [FLOAT], domain="", constants={"axis": np.array(-1, np.int32)}, **flags)
    m.case("ReduceSum", "opset11", {"x": x}, [FLOAT], domain="", core=11, axes=[1], keepdims=0)
    m.case("ReduceMean", "opset18", {"x": x}, [FLOAT], domain="", core=18, constants={"axes": np.array([-1])})
    m.graph("Split", "uneven", [node("Split", "x by", "y0 y1", axis=1)], {"x": x}, [FLOAT, FLOAT], constants={"by": np.array([1, 5])})
    m.graph("Shape", "count_up", [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("ConstantOfShape", "n", "ones",
            value=numpy_helper.from_array(np.array([1]))), node("CumSum", "ones axis", "y0")], {"x": x}, [INT64],
            constants={"zero": np.array([0]), "axis": np.array(0)})
    m.graph("Shape", "range", [node("Shape", "x", "s"), node("Squeeze", "s0 at", "n"), node("Range", "naught n one", "y0")][:1]
            + [node("Slice", "s at to", "s0"), node("Squeeze", "s0 at", "n"), node("Range", "naught n one", "y0")], {"x": x}, [INT64],
            constants={"at": np.array([0]), "to": np.array([1]), "naught": np.array(0), "one": np.array(1)})
    m.graph("Shape", "answer", [node("Shape", "x", "y0")], {"x": x}, [INT64])
    m.graph("ConstantOfShape", "zeros", [node("Shape", "x", "s"), node("ConstantOfShape", "s", "y0")], {"x": x}, [FLOAT])
    m.graph("OneHot", "labels", [node("OneHot", "x depth values", "y0", axis=-1)], {"x": np.array([0, 2, -1])}, [FLOAT],
            constants={"depth": np.array([3]), "values": np.array([0, 1], np.float32)})
    half = [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Gemm", "h w b", "g"), node("Cast", "g", "y0", to=FLOAT)]
    m.graph("Gemm", "float16", half, {"x": x.astype(np.float16).astype(np.float32)}, [FLOAT], constants={"w": m.floats(6, 3, seed=211).astype(np.float16),
                                                                  "b": m.floats(3, seed=212).astype(np.float16)})
    m.graph("Where", "float64", [node("GreaterOrEqual", "x at", "c"), node("Where", "c x at", "y0")], {"x": x.astype(np.float64)}, [DOUBLE],
            constants={"at": np.array([0.25])})


def pools(m):
    """Padding by rule, sizes rounded up, dilations."""
    for side in (6, 7):
        x = m.floats(2, 3, side, side, seed=250 + side)
        for operator in ("MaxPool", "AveragePool"):
            for rule in ("VALID", "NOTSET"):
                for up in (0, 1):
                    m.case(operator, f"{rule.lower()}_{side}_{up}", {"x": x}, [FLOAT], domain="", auto_pad=rule, ceil_mode=up,
                           kernel_shape=[3, 3], strides=[2, 2], core=19)
                m.case(operator, f"{rule.lower()}_dilated_{side}", {"x": x}, [FLOAT], domain="", auto_pad=rule, ceil_mode=1,
                       kernel_shape=[2, 3], strides=[2, 1], dilations=[2, 2], core=19)
            for rule in ("SAME_UPPER", "SAME_LOWER"):
                m.case(operator, f"{rule.lower()}_{side}", {"x": x}, [FLOAT], domain="", auto_pad=rule, kernel_shape=[3, 2], strides=[2, 2],
                       core=19)
        m.case("AveragePool", f"padded_{side}", {"x": x}, [FLOAT], domain="", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
               ceil_mode=1, count_include_pad=1, core=19)


def products(m):
    """Gemm over its types, its factors and the shapes of what is added."""
    for name, dtype, out in (("float32", np.float32, FLOAT), ("float64", np.float64, DOUBLE)):
        x, w = m.floats(4, 6, seed=260).astype(dtype), m.floats(6, 3, seed=261).astype(dtype)
        for tag, columns in (("column", 1), ("whole", 3)):
            m.graph("Gemm", f"{name}_{tag}", [node("Gemm", "x w b", "y0", alpha=-0.5)], {"x": x, "b": m.floats(4, columns, seed=262).astype(dtype)},
                    [out], constants={"w": w})
        for tag, added in (("row", (3,)), ("one_row", (1, 3)), ("scalar", ())):
            m.case("Gemm", f"{name}_{tag}", {"x": x}, [out], domain="", alpha=0.5, beta=2.0,
                   constants={"w": w, "b": m.floats(*added, seed=262).astype(dtype) if added else np.array(0.75, dtype)})
        m.case("Gemm", f"{name}_turned", {"x": x}, [out], domain="", transB=1, constants={"w": np.ascontiguousarray(w.T)})
        m.case("Gemm", f"{name}_no_beta", {"x": x}, [out], domain="", beta=0.0, constants={"w": w, "b": np.full(3, 9, dtype)})
    m.graph("Gemm", "both_turned", [node("Gemm", "w x", "y0", transA=1, transB=1)], {"x": m.floats(5, 6, seed=263)}, [FLOAT],
            constants={"w": m.floats(6, 3, seed=264)})


def elements(m):
    """Functions of single values, of 32 and of 64 bits."""
    x = np.array([[0.0, -0.0, 0.5, 1.5, -2.5, 3.0], [-7.0, 40.0, 1e-9, 2.49999, np.inf, -np.inf]])
    for name, dtype, kind in (("float32", np.float32, FLOAT), ("float64", np.float64, DOUBLE)):
        value, odd = x.astype(dtype), np.where(x == 3, np.nan, x).astype(dtype)
        for operator, attributes in (("Sigmoid", {}), ("Round", {}), ("LeakyRelu", {}), ("LeakyRelu", {"alpha": -0.3})):
            m.case(operator, f"{name}_negative" if attributes else name, {"x": value}, [kind], domain="", **attributes)
            if dtype == np.float64 and not attributes:
                m.case(operator, f"{name}_nan", {"x": odd}, [kind], domain="")
        for alpha in (0.5, 1.0, 2.5) if dtype == np.float32 else ():
            m.case("Celu", f"alpha_{alpha}", {"x": odd}, [kind], domain="", alpha=alpha)
        m.case("IsNaN", name, {"x": odd}, [TensorProto.BOOL], domain="")
        for tag, attributes in (("", {}), ("_positive", {"detect_negative": 0}), ("_negative", {"detect_positive": 0})):
            m.case("IsInf", f"{name}{tag}", {"x": odd}, [TensorProto.BOOL], domain="", **attributes)


    large = np.array([-1e4, -100, -88, -20, -1, -0.0, 0, 1, 20, 88, 89, 100, 1e4, np.inf, -np.inf, np.nan], np.float32)
    m.case("Softplus", "large", {"x": large}, [FLOAT], domain="")
    half = [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Softplus", "h", "s"), node("Cast", "s", "y0", to=FLOAT)]
    m.graph("Softplus", "float16", half, {"x": large}, [FLOAT])


def casts(m):
    """To INT64, of data and of sizes."""
    whole = [0.0, -0.0, 1.5, -1.5, 2.5, 2.0 ** 40, 3e9, -3e9, 9.2e18, 9.3e18, 1e19, -1e19, np.inf, -np.inf, np.nan]
    long = np.array([2 ** 40 + 7, -(2 ** 40) - 7, 2 ** 63 - 1, -(2 ** 63), 0, 2 ** 31])
    for name, value in (("float32", np.array(whole, np.float32)), ("float64", np.array(whole)), ("int64", long),
                        ("uint64", np.array([2 ** 63 + 5, 7, 2 ** 40], np.uint64)), ("uint32", np.array([2 ** 32 - 1, 7], np.uint32)),
                        ("int32", np.array([-5, 2 ** 31 - 1], np.int32)), ("bool", np.array([True, False])),
                        ("words", m.words("12", "-1099511627783", "+5"))):
        m.case("Cast", name, {"x": value}, [INT64], domain="", to=INT64)
    to = lambda inputs, outputs, to=INT64: node("Cast", inputs, outputs, to=to)
    m.graph("Cast", "float16", [to("x", "h", TensorProto.FLOAT16), to("h", "y0")], {"x": np.array(whole, np.float32)}, [INT64])
    m.graph("Cast", "sum", [to("x", "i"), node("Add", "i i", "s"), node("ReduceSum", "s", "t", keepdims=0), to("t", "y0", DOUBLE)],
            {"x": np.array([[2.0 ** 40, 3], [5, 2.0 ** 33]])}, [DOUBLE], is_open=False)
    m.graph("Cast", "where", [to("x", "i"), node("Greater", "i least", "g"), node("Where", "g i least", "y0")],
            {"x": np.array([2.0 ** 35, 3, -7], np.float32)}, [INT64], constants={"least": np.array(2 ** 33)})
    x = m.floats(2, 3, 4, seed=225)
    m.graph("Cast", "shape_of_floats", [node("Shape", "x", "n"), to("n", "f", FLOAT), node("ReduceProd", "f", "p", keepdims=1), to("p", "i"),
                                        node("Reshape", "x i", "y0")], {"x": x}, [FLOAT])
    m.graph("Cast", "shape_of_sizes", [node("Shape", "x", "n"), to("n", "i"), node("Gather", "i at", "rows"), node("Concat", "rows rest", "s", axis=0),
                                       node("Reshape", "x s", "y0")], {"x": x}, [FLOAT],
            constants={"at": np.array([0]), "rest": np.array([-1])})
    m.graph("Cast", "shape_halved", [node("Shape", "x", "n"), to("n", "f", FLOAT), node("Mul", "f by", "d"), node("Floor", "d", "e"), to("e", "i"),
                                     node("Slice", "x from i", "y0")], {"x": x}, [FLOAT],
            constants={"by": np.array(0.6, np.float32), "from": np.array([0, 0, 0])}, is_open=False)
    m.graph("Cast", "shape_constant", [to("s", "i"), node("Reshape", "x i", "y0")], {"x": x}, [FLOAT], constants={"s": np.array([-1, 6], np.int32)})
    m.graph("Cast", "shape_constant_floats", [to("s", "i"), node("ConstantOfShape", "i", "c"), node("Add", "x c", "y0")], {"x": x}, [FLOAT],
            constants={"s": np.array([3, 4], np.float32)})
    m.graph("Cast", "range", [node("Shape", "x", "n"), node("Gather", "n at", "d"), to("d", "e", FLOAT), to("e", "i"), node("Range", "zero i one", "y0")],
            {"x": x}, [INT64], constants={"at": np.array(1), "zero": np.array(0), "one": np.array(1)})


def quantised(m):
    x = m.floats(6, 8, seed=220)

    def graph(operator, name, nodes, feeds, outputs, constants):
        used = {title for each in nodes for title in each.input}
        m.graph(operator, name, nodes, feeds, outputs, constants={key: value for key, value in constants.items() if key in used})

    scale, out = {"s": np.array(0.05, np.float32)}, {"t": np.array(1 / 256, np.float32)}
    for name, dtype, tensor, zero in (("uint8", np.uint8, UINT8, 0), ("int8", np.int8, INT8, -128)):
        fixed = scale | out | {"z": np.array(0 if name == "int8" else 128, dtype), "u": np.array(zero, dtype)}
        into, back = node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")
        graph("DequantizeLinear", f"softmax_{name}", [into, back, node("Softmax", "d", "p"), node("QuantizeLinear", "p t u", "r"),
                node("DequantizeLinear", "r t u", "y0")], {"x": x}, [FLOAT], constants=fixed)
        graph("DequantizeLinear", f"sigmoid_{name}", [into, back, node("Sigmoid", "d", "p"), node("QuantizeLinear", "p t u", "r"),
                node("DequantizeLinear", "r t u", "y0")], {"x": x}, [FLOAT], constants=fixed)
        each = {"s": (m.rng(221).random(8) / 20 + 0.01).astype(np.float32), "z": np.full(8, 3, dtype)}
        graph("DequantizeLinear", f"each_{name}", [node("QuantizeLinear", "x s z", "q", axis=1), node("DequantizeLinear", "q s z", "y0", axis=1)],
                {"x": x}, [FLOAT], constants=each)
    ties = np.concatenate([np.arange(-9, 9) / 2, [1e9, -1e9, np.inf, -np.inf, np.nan, 0.0]]).astype(np.float32)
    rounded = np.concatenate([m.floats(9, 8, seed=223).ravel() * 40, ties, ties * np.float32(0.3)]).reshape(-1, 6).astype(np.float32)
    for name, dtype in (("uint8", np.uint8), ("int8", np.int8), ("uint16", np.uint16), ("int16", np.int16)):
        least, kind = np.iinfo(dtype).min, helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        for tag, step, zero in (("", 0.3, 3), ("_one", 1.0, 0), ("_low", 0.07, least), ("_high", 0.007, np.iinfo(dtype).max)):
            m.case("QuantizeLinear", f"{name}{tag}", {"x": rounded}, [kind], domain="", core=21,
                   constants={"s": np.array(step, np.float32), "z": np.array(zero, dtype)})
        m.case("QuantizeLinear", f"{name}_each", {"x": rounded}, [kind], domain="", core=21, axis=1,
               constants={"s": np.array([0.3, 1, 0.07, 2, 0.5, 7], np.float32), "z": np.array([3, 0, least, 1, 2, 100], dtype)})
        m.case("QuantizeLinear", f"{name}_cube", {"x": m.floats(2, 3, 4, seed=224) * 99}, [kind], domain="", core=21, axis=-2,
               constants={"s": np.array([0.3, 1, 0.07], np.float32), "z": np.array([3, 0, least], dtype)})
    step = {"s": np.array(0.3, np.float32)}
    m.case("QuantizeLinear", "no_zero", {"x": rounded}, [UINT8], domain="", constants=step)
    m.case("QuantizeLinear", "output_dtype", {"x": rounded}, [TensorProto.INT16], domain="", core=21, output_dtype=TensorProto.INT16, constants=step)
    m.case("QuantizeLinear", "empty", {"x": rounded[:0]}, [UINT8], domain="", constants=step)
    m.graph("QuantizeLinear", "dynamic", [node("QuantizeLinear", "x s z", "y0")], {"x": rounded, "s": np.array(0.25, np.float32),
            "z": np.array(7, np.uint8)}, [UINT8])
    m.graph("QuantizeLinear", "float16", [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("QuantizeLinear", "h s z", "y0")],
            {"x": m.floats(6, 8, seed=225) * 9}, [INT8], core=21, constants={"s": np.array(0.25, np.float16), "z": np.array(1, np.int8)})
    draw = m.rng(222)
    w, b = draw.integers(-127, 128, (8, 4), dtype=np.int8), draw.integers(-900, 900, 4, dtype=np.int32)
    fixed = {"s": np.array(0.03, np.float32), "z": np.array(120, np.uint8), "w": w, "ws": np.array(0.01, np.float32), "wz": np.array(0, np.int8),
             "b": b, "t": np.array(0.02, np.float32), "u": np.array(130, np.uint8)}
    into = node("QuantizeLinear", "x s z", "q")
    graph("QGemm", "uint8", [into, node("QGemm", "q s z w ws wz b t u", "r", domain="com.microsoft"), node("DequantizeLinear", "r t u", "y0")],
            {"x": x}, [FLOAT], constants=fixed)
    graph("QGemm", "float", [into, node("QGemm", "q s z w ws wz b", "y0", domain="com.microsoft")], {"x": x}, [FLOAT], constants=fixed)
    turned = fixed | {"w": np.ascontiguousarray(w.T), "ws": np.array([0.01, 0.02, 0.03, 0.04], np.float32), "wz": np.zeros(4, np.int8)}
    graph("QGemm", "turned_each", [into, node("QGemm", "q s z w ws wz b t u", "r", domain="com.microsoft", transB=1, alpha=1.0),
                                     node("DequantizeLinear", "r t u", "y0")], {"x": x}, [FLOAT], constants=turned)
    softmax = node("QLinearSoftmax", "q s z t u", "r", domain="com.microsoft", opset=13, axis=-1)
    graph("QLinearSoftmax", "uint8", [into, softmax, node("DequantizeLinear", "r t u", "y0")], {"x": x}, [FLOAT],
            constants=fixed | {"t": np.array(1 / 256, np.float32), "u": np.array(0, np.uint8)})
    for operator in ("QLinearAdd", "QLinearMul"):
        graph(operator, "uint8", [into, node(operator, "q s z q s z t u", "r", domain="com.microsoft"), node("DequantizeLinear", "r t u", "y0")],
                {"x": x}, [FLOAT], constants=fixed)
    graph("DynamicQuantizeLinear", "rows", [node("DynamicQuantizeLinear", "x", "q ss zz"), node("MatMulInteger", "q w zz wz", "i"),
            node("Cast", "i", "f", to=FLOAT), node("Mul", "f ss", "y0")], {"x": x}, [FLOAT], constants=fixed)


def recurrent(m):
    x, hidden = m.floats(4, 3, 5, seed=230), 4
    for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for way, ways in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            draw = m.rng(231)
            fixed = {"w": draw.normal(size=(ways, gates * hidden, 5)), "r": draw.normal(size=(ways, gates * hidden, hidden)) / 2,
                     "b": draw.normal(size=(ways, 2 * gates * hidden))}
            outputs = "y0 y1 y2" if kind == "LSTM" else "y0 y1"
            m.graph(kind, way, [node(kind, "x w r b", outputs, hidden_size=hidden, direction=way)], {"x": x}, [FLOAT] * (2 + (gates == 4)),
                    constants={key: value.astype(np.float32) for key, value in fixed.items()})
    forms(m)
    for way, ways in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        for name, dtype, each in (("int8", np.int8, False), ("uint8", np.uint8, False), ("int8_each", np.int8, True)):
            draw, kind = m.rng(232), np.iinfo(dtype)
            one = (ways, 16) if each else (ways,)
            scale = lambda least: (least * (1 + draw.random(one))).astype(np.float32)
            zero = (np.full if dtype == np.uint8 else np.zeros)(one, *([120] if dtype == np.uint8 else []), dtype=dtype)
            fixed = {"w": draw.integers(kind.min, kind.max + 1, (ways, 5, 16), dtype=dtype),
                     "r": draw.integers(kind.min, kind.max + 1, (ways, 4, 16), dtype=dtype),
                     "b": draw.normal(size=(ways, 32)).astype(np.float32), "ws": scale(0.01), "wz": zero, "rs": scale(0.005), "rz": zero,
                     "h": draw.normal(size=(ways, 3, 4)).astype(np.float32), "c": draw.normal(size=(ways, 3, 4)).astype(np.float32)}
            states = ["h", "c"] if each else ["", ""]
            inner = helper.make_node("DynamicQuantizeLSTM", ["x", "w", "r", "" if name == "uint8" else "b", "", *states, "", "ws", "wz", "rs", "rz"],
                                     ["y0", "y1", "y2"], domain="com.microsoft", hidden_size=hidden, direction=way)
            used = {title: value for title, value in fixed.items() if title in inner.input}
            m.graph("DynamicQuantizeLSTM", f"{way}_{name}", [inner], {"x": x}, [FLOAT] * 3, constants=used)


def forms(m):
    """Recurrent operators as few exporters write them."""
    x, hidden, ways = m.floats(5, 3, 4, seed=233) * 2, 3, ("forward", "reverse", "bidirectional")
    # More than the engine's own kernel takes for several sequences.
    wide = 129
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}

    def form(kind, name, way="forward", given="", wanted=None, hidden=hidden, **attributes):
        """`given`: of the inputs `n` (lengths), `h`, `c` and `p` (peepholes) those that are there."""
        draw, count = m.rng(234), 1 + (way == "bidirectional")
        rows = gates[kind] * hidden
        fixed = {"w": draw.normal(size=(count, rows, 4)), "r": draw.normal(size=(count, rows, hidden)), "b": draw.normal(size=(count, 2 * rows)),
                 "h": draw.normal(size=(count, 3, hidden)), "c": draw.normal(size=(count, 3, hidden)), "p": draw.normal(size=(count, 3 * hidden))}
        fixed = {key: value.astype(np.float32) for key, value in fixed.items()} | {"n": np.array([5, 2, 3], np.int32)}
        inputs = ["x", "w", "r", "b", *(key if key in given else "" for key in ("nhcp" if kind == "LSTM" else "nh"))]
        outputs = wanted or ["y0", "y1", "y2"][:2 + (kind == "LSTM")]
        made = helper.make_node(kind, inputs, outputs, hidden_size=hidden, direction=way, **attributes)
        used = {key: value for key, value in fixed.items() if key in inputs}
        nodes = [made]
        if hidden == wide:  # small files: a column by a row
            used["r0"], used["r1"] = used.pop("r")[:, :, :1], draw.normal(size=(count, 1, hidden)).astype(np.float32) / 9
            nodes = [node("Mul", "r0 r1", "r"), made]
        m.graph(kind, name, nodes, {"x": x}, [FLOAT] * sum(bool(output) for output in outputs), constants=used, is_open=False)

    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
    for kind in gates:
        for way in ways:
            form(kind, f"lengths_{way}", way, "n")
            form(kind, f"lengths_states_{way}", way, "nhc")
            form(kind, f"states_{way}", way, "hc")
            form(kind, f"clip_{way}", way, "hc", clip=0.4)
            form(kind, f"wide_{way}", way, hidden=wide)
            form(kind, f"wide_states_{way}", way, "hc", hidden=wide)
        for clip in (0.1, 1.0, 3.0):
            form(kind, f"clip_{clip}", clip=clip)
        for function, more in (("Affine", dict(alpha=0.5, beta=0.1)), ("Elu", dict(alpha=0.7)), ("HardSigmoid", dict(alpha=0.3, beta=0.4)),
                               ("LeakyRelu", dict(alpha=0.1)), ("Relu", {}), ("ScaledTanh", dict(alpha=0.8, beta=0.6)), ("Sigmoid", {}),
                               ("Softplus", {}), ("Softsign", {}), ("ThresholdedRelu", dict(alpha=0.3))):
            # The candidate's; in an RNN the only one.
            names = [function if at == min(1, len(usual[kind]) - 1) else name for at, name in enumerate(usual[kind])]
            form(kind, f"activation_{function.lower()}", activations=names, **{f"activation_{key}": [value] for key, value in more.items()})
        form(kind, "activations_bidirectional", "bidirectional", "n", clip=2.0,
             activations=usual[kind] + ["HardSigmoid", "Softsign", "Relu"][3 - len(usual[kind]):])
    for late in (0, 1):
        for way in ways:
            form("GRU", f"late_{late}_{way}", way, "nh", linear_before_reset=late, activations=["HardSigmoid", "Softsign"] * (1 + (way == ways[2])))
            form("GRU", f"late_{late}_{way}_clip", way, linear_before_reset=late, clip=0.5)
            form("GRU", f"late_{late}_{way}_usual", way, linear_before_reset=late)
            form("GRU", f"late_{late}_{way}_wide", way, linear_before_reset=late, hidden=wide)
    for way in ways:
        form("LSTM", f"peepholes_{way}", way, "p")
        form("LSTM", f"peepholes_{way}_wide", way, "p", hidden=wide)
        form("LSTM", f"peepholes_{way}_all", way, "nhcp", clip=0.8)
        form("LSTM", f"coupled_{way}", way, "p", input_forget=1)
        for wanted in (["y0", "", "y1"], ["", "", "y0"], ["", "y0", "y1"], ["", "y0"], ["y0", "y1"]):
            form("LSTM", f"gives_{'_'.join(wanted)}_{way}", way, wanted=wanted)
            form("LSTM", f"wide_gives_{'_'.join(wanted)}_{way}", way, wanted=wanted, hidden=wide)
    form("LSTM", "coupled_clip", input_forget=1, clip=0.7)


def texts(m):
    words = m.words("b", "a", "zz", "a", "b", "q")
    for name, mode in (("counts", "TF"), ("weights", "TFIDF"), ("presence", "IDF")):
        m.case("TfIdfVectorizer", name, {"x": words}, [FLOAT], domain="", mode=mode, min_gram_length=1, max_gram_length=2, max_skip_count=0,
               ngram_counts=[0, 3], ngram_indexes=[0, 1, 2, 3, 4], pool_strings=["a", "b", "zz", "b", "a", "a", "zz"],
               weights=[1.0, 2.0, 0.5, 3.0, 4.0])
    m.case("TfIdfVectorizer", "ints", {"x": np.array([[2, 3, 5, 2], [7, 2, 3, 5]])}, [FLOAT], domain="", mode="TF", min_gram_length=1,
           max_gram_length=2, max_skip_count=0, ngram_counts=[0, 2], ngram_indexes=[0, 1, 2, 3], pool_int64s=[2, 5, 2, 3, 3, 5])
    m.case("StringNormalizer", "lower", {"x": m.words("Pump", "THE", "ok")}, [STRING], domain="", case_change_action="LOWER", locale="C")
    m.case("StringNormalizer", "stop", {"x": m.words("Pump", "THE", "ok")}, [STRING], domain="", case_change_action="NONE",
           is_case_sensitive=1, stopwords=["THE"], locale="C")
    m.case("Equal", "words", {"x": m.words("a", "b")}, [TensorProto.BOOL], domain="", core=19, constants={"z": m.words("b", "b")})
    m.case("CDist", "euclidean", {"x": m.floats(4, 3, seed=240)}, [FLOAT], domain="com.microsoft",
           constants={"z": m.floats(5, 3, seed=241)}, metric="euclidean")
    m.case("CDist", "sqeuclidean", {"x": m.floats(4, 3, seed=240)}, [FLOAT], domain="com.microsoft",
           constants={"z": m.floats(5, 3, seed=241)}, metric="sqeuclidean")
    m.case("MurmurHash3", "words", {"x": words}, [TensorProto.INT32], domain="com.microsoft", positive=0, seed=0)


def add(m):
    for make in (choices, loops, shapes, pools, products, elements, casts, quantised, recurrent, texts):
        make(m)
