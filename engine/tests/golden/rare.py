"""Rarer core operators, which ONNX's own backend tests know and few exporters write, and quantised ones in onnxruntime's operator format."""
import numpy as np
from onnx import TensorProto, helper

FLOAT, DOUBLE, INT64, BOOL, UINT32, INT32, STRING = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL,
                                                     TensorProto.UINT32, TensorProto.INT32, TensorProto.STRING)
REFUSED = {"Det/float64": "no kernel for other types than float"}


def node(operator, inputs, outputs, domain="", **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), domain=domain, **attributes)


def fixed(m, operator, name, feeds, outputs, core, constants=None, domain="", inputs=None, **attributes):
    """One operator over inputs of fixed shapes; `inputs` names them where some are left out."""
    inputs = inputs or " ".join([*feeds, *(constants or {})])
    made = node(operator, inputs, " ".join(f"y{i}" for i in range(len(outputs))), domain, **attributes)
    m.graph(operator, name, [made], feeds, outputs, constants=constants, core=core, is_open=False)


def losses(m):
    for operator, core in (("NegativeLogLikelihoodLoss", 13), ("SoftmaxCrossEntropyLoss", 13)):
        flat, deep = m.floats(5, 3, seed=300), m.floats(2, 3, 4, 2, seed=301)
        targets, places = np.array([0, 2, 1, 2, 0]), m.rng(302).integers(0, 3, (2, 4, 2))
        weights = {"w": np.array([0.5, 2.0, 1.25], np.float32)}
        for reduction in ("none", "sum", "mean"):
            fixed(m, operator, reduction, {"x": flat, "t": targets}, [FLOAT], core, reduction=reduction)
            fixed(m, operator, f"{reduction}_deep", {"x": deep, "t": places}, [FLOAT], core, reduction=reduction, ignore_index=1)
            fixed(m, operator, f"{reduction}_weighted", {"x": deep, "t": places.astype(np.int32)}, [FLOAT], core, weights, reduction=reduction)
        fixed(m, operator, "ignored_is_no_class", {"x": flat, "t": np.array([0, -100, 1, -100, 2])}, [FLOAT], core, weights, ignore_index=-100)
        fixed(m, operator, "nothing_counts", {"x": flat[:2], "t": np.array([1, 1])}, [FLOAT], core, ignore_index=1)
        fixed(m, operator, "float64", {"x": flat.astype(np.float64), "t": targets}, [DOUBLE], core)
    large = np.array([[1000, -1000, 3], [0, np.nan, 1]], np.float32)
    fixed(m, "SoftmaxCrossEntropyLoss", "large", {"x": large, "t": np.array([1, 0])}, [FLOAT, FLOAT], 13, reduction="none")
    fixed(m, "SoftmaxCrossEntropyLoss", "with_logs", {"x": m.floats(2, 3, 4, seed=303), "t": np.array([[0, 1, 2, 1], [2, 2, 0, 1]])},
          [FLOAT, FLOAT], 13)


def windows(m):
    x = m.floats(2, 2, 7, 6, seed=310)
    x[0, 0, 2, 2] = np.nan
    for p in (1, 2, 3):
        m.case("LpPool", f"norm_{p}", {"x": x}, [FLOAT], domain="", core=18, kernel_shape=[3, 2], p=p)
    for name, more in (("pads", dict(pads=[1, 0, 1, 1])), ("strides", dict(strides=[2, 3])), ("dilations", dict(dilations=[2, 1])),
                       ("upper", dict(auto_pad="SAME_UPPER", strides=[2, 2])), ("lower", dict(auto_pad="SAME_LOWER", strides=[2, 2])),
                       ("valid", dict(auto_pad="VALID"))):
        m.case("LpPool", name, {"x": x}, [FLOAT], domain="", core=18, kernel_shape=[3, 2], **more)
    m.case("LpPool", "row", {"x": m.floats(1, 3, 9, seed=311)}, [FLOAT], domain="", core=11, kernel_shape=[4])
    for p in (1, 2, 3):
        m.case("GlobalLpPool", f"norm_{p}", {"x": m.floats(2, 3, 4, 5, seed=314)}, [FLOAT], domain="", p=p)
    m.case("GlobalLpPool", "row", {"x": m.floats(2, 3, 4, seed=315)}, [FLOAT], domain="")
    pooled, places = np.array([[[[5, 6], [7, 8]]]], np.float32), np.array([[[[5, 7], [13, 15]]]])
    fixed(m, "MaxUnpool", "plain", {"x": pooled, "at": places}, [FLOAT], 11, kernel_shape=[2, 2], strides=[2, 2])
    fixed(m, "MaxUnpool", "to_a_shape", {"x": pooled, "at": places}, [FLOAT], 11, {"shape": np.array([1, 1, 5, 5])}, kernel_shape=[2, 2],
          strides=[2, 2])
    pool = [node("MaxPool", "x", "p at", kernel_shape=[2, 2], strides=[2, 2]), node("MaxUnpool", "p at", "y0", kernel_shape=[2, 2], strides=[2, 2])]
    m.graph("MaxUnpool", "undone", pool, {"x": m.floats(2, 2, 6, 4, seed=312)}, [FLOAT])
    for name, shape, image, block, more in (
            ("plain", (1, 5, 5), [5, 5], [1, 5], {}), ("pads", (2, 10, 15), [5, 5], [1, 5], dict(pads=[0, 1, 0, 1])),
            ("strides", (1, 9, 4), [5, 5], [3, 3], dict(strides=[2, 2])), ("dilations", (1, 4, 5), [6, 6], [2, 2], dict(dilations=[1, 5])),
            ("row", (2, 6, 4), [5], [2], {}), ("cube", (1, 10, 12), [3, 4, 5], [1, 1, 5], {})):
        fixed(m, "Col2Im", name, {"x": m.floats(*shape, seed=313)}, [FLOAT], 18, {"image": np.array(image), "block": np.array(block)}, **more)


def picks(m):
    x = m.floats(4, 3, 2, seed=320)
    for name, value in (("float", x), ("int64", (x * 9).astype(np.int64)), ("words", m.words(["a", "b"], ["c", "d"], ["e", "f"]))):
        lengths = np.array([3, 1, 2][:value.shape[1]])
        fixed(m, "ReverseSequence", f"time_{name}", {"x": value}, [m.kind(value)], 10, {"lengths": lengths}, time_axis=0, batch_axis=1)
        fixed(m, "ReverseSequence", f"batch_{name}", {"x": value}, [m.kind(value)], 10, {"lengths": np.array([1, 2, 2, 0][:value.shape[0]])},
              time_axis=1, batch_axis=0)
    whole = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    for name, sizes, axes in (("cut", [2, 3, 1], None), ("put", [8, 7, 4], None), ("both", [2, 9], [0, -1]), ("nothing", [0, 4], [0, 1])):
        more = {} if axes is None else {"axes": axes}
        fixed(m, "CenterCropPad", name, {"x": whole}, [FLOAT], 18, {"shape": np.array(sizes)}, **more)
    for name, by, axes in (("both", [1, 2, 3, 0, 1, 2], None), ("far", [9, 0, 0, 7, 0, 0], None), ("cut", [-1, 0, 2, 0, -2, 1], None),
                           ("axes", [1, 2], [1])):
        constants = {"by": np.array(by)} | ({} if axes is None else {"axes": np.array(axes)})
        fixed(m, "Pad", f"wrap_{name}", {"x": whole}, [FLOAT], 19, constants, mode="wrap", inputs="x by" + ("  axes" if axes else ""))
    for name, axis, holds in (("flat", None, [0, 1, 1, 0, 1]), ("rows", 0, [1, 0, 1, 1, 0]), ("last", -1, [0, 1]), ("none", 1, [0, 0, 0, 0])):
        more = {} if axis is None else {"axis": axis}
        fixed(m, "Compress", name, {"x": whole, "holds": np.array(holds, bool)}, [FLOAT], 11, **more)
    fixed(m, "Compress", "words", {"x": m.words("a", "b", "c"), "holds": np.array([1, 0, 1], bool)}, [STRING], 11)
    kept = [node("Greater", "x least", "holds"), node("Compress", "x holds", "kept"), node("ReduceSum", "kept", "y0")]
    m.graph("Compress", "of_values", kept, {"x": m.floats(6, seed=321)}, [FLOAT], constants={"least": np.array(0, np.float32)}, is_open=False)
    some = np.array([2, 1, 1, 3, 4, 3, np.nan, 2, -0.0, 0.0], np.float32)
    for name, value in (("float", some[~np.isnan(some)]), ("int64", np.array([5, -3, 5, 0])), ("int8", np.array([5, -3, 5, 0], np.int8)),
                        ("words", m.words("b", "a", "b", ""))):
        for is_sorted in (0, 1):
            fixed(m, "Unique", f"{name}_{is_sorted}", {"x": value}, [m.kind(value), INT64, INT64, INT64], 11, sorted=is_sorted)
    rows = np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4], [0, 9, 9]], np.float32)
    for axis in (0, 1, -1):
        fixed(m, "Unique", f"axis_{axis}", {"x": rows}, [FLOAT, INT64, INT64, INT64], 11, axis=axis)
    fixed(m, "Unique", "unsorted_rows", {"x": rows}, [FLOAT, INT64, INT64, INT64], 11, axis=0, sorted=0)
    m.graph("Unique", "counts_only", [helper.make_node("Unique", ["x"], ["u", "", "", "y0"])], {"x": np.array([4, 4, 1])}, [INT64], is_open=False)


def images(m):
    for name, size in (("flat", [2, 1, 4, 5]), ("deep", [1, 2, 2, 3, 4])):
        axes = len(size) - 2
        maps = m.floats(size[0], axes, axes + 1, seed=330)
        for aligned in (0, 1):
            fixed(m, "AffineGrid", f"{name}_{aligned}", {"x": maps}, [FLOAT], 20, {"size": np.array(size)}, align_corners=aligned)
    fixed(m, "AffineGrid", "float64", {"x": maps.astype(np.float64)}, [DOUBLE], 20, {"size": np.array(size)})
    x = m.floats(2, 3, 8, 9, seed=331)
    regions = np.array([[0, 0, 7, 7], [1.5, 2, 6, 4.25], [-3, -3, 20, 20], [5, 5, 5, 5], [6, 6, 2, 2]], np.float32)
    of = np.array([0, 1, 1, 0, 0])
    for mode in ("avg", "max"):
        for way in ("half_pixel", "output_half_pixel"):
            for ratio in (0, 2):
                fixed(m, "RoiAlign", f"{mode}_{way}_{ratio}", {"x": x, "regions": regions, "of": of}, [FLOAT], 16, mode=mode,
                      coordinate_transformation_mode=way, sampling_ratio=ratio, output_height=3, output_width=2, spatial_scale=0.75)
    fixed(m, "RoiAlign", "opset10", {"x": x, "regions": regions, "of": of}, [FLOAT], 10, output_height=2, output_width=2)
    fixed(m, "RoiAlign", "float64", {"x": x.astype(np.float64), "regions": regions.astype(np.float64), "of": of}, [DOUBLE], 16)
    fixed(m, "RoiAlign", "empty", {"x": x, "regions": regions[:0], "of": of[:0]}, [FLOAT], 16)
    shape = lambda *dims, seed: m.floats(*dims, seed=seed)
    for name, made, group, offsets, mask, more in (
            ("plain", 2, 1, 1, False, {}), ("pads", 2, 1, 1, False, dict(pads=[1, 0, 1, 2])), ("mask", 4, 2, 2, True, {}),
            ("strides", 2, 1, 4, True, dict(strides=[2, 1], dilations=[1, 2]))):
        pads, strides, dilations = more.get("pads", [0] * 4), more.get("strides", [1, 1]), more.get("dilations", [1, 1])
        out = [(size + pads[i] + pads[i + 2] - dilations[i] * (kernel - 1) - 1) // strides[i] + 1
               for i, (size, kernel) in enumerate(((6, 3), (7, 2)))]
        feeds = {"x": shape(2, 4, 6, 7, seed=332), "w": shape(made, 4 // group, 3, 2, seed=333), "o": shape(2, offsets * 12, *out, seed=334)}
        constants = {"b": shape(made, seed=335), "k": shape(2, offsets * 6, *out, seed=336)} if mask else {}
        fixed(m, "DeformConv", name, feeds, [FLOAT], 19, constants, group=group, offset_group=offsets, kernel_shape=[3, 2], **more)


def numbers(m):
    square = m.floats(3, 4, 4, seed=340)
    square[1, 2] = square[1, 3]
    m.case("Det", "batch", {"x": square}, [FLOAT], domain="", core=11)
    fixed(m, "Det", "one", {"x": square[0]}, [FLOAT], 11)
    truths = np.array([[True, True], [True, False], [False, False]])
    for operator in ("ReduceMax", "ReduceMin"):
        fixed(m, operator, "truths", {"x": truths}, [BOOL], 20, {"axes": np.array([1])}, keepdims=1)
        for keep in (0, 1):
            m.case(operator, f"opset17_{keep}", {"x": m.floats(3, 4, 2, seed=341)}, [FLOAT], domain="", axes=[-1], keepdims=keep)
        m.case(operator, "int32", {"x": np.array([[3, -4], [5, 5]], np.int32)}, [INT32], domain="", core=18, constants={"axes": np.array([1])})
        fixed(m, operator, "all", {"x": m.floats(3, 4, seed=342)}, [FLOAT], 18)
        m.case(operator, "none", {"x": m.floats(3, 4, seed=342)}, [FLOAT], domain="", core=18, noop_with_empty_axes=1)
    image = m.floats(1, 2, 3, 4, seed=343)
    for mode in ("nearest", "linear"):
        m.case("Upsample", f"{mode}_9", {"x": image}, [FLOAT], domain="", core=9, constants={"by": np.array([1, 1, 2, 3], np.float32)}, mode=mode)
        m.case("Upsample", f"{mode}_7", {"x": image}, [FLOAT], domain="", core=7, scales=[1.0, 1.0, 2.0, 3.0], mode=mode)
        m.graph("Resize", f"{mode}_opset11", [helper.make_node("Resize", ["x", "", "by"], ["y0"], mode=mode)], {"x": image}, [FLOAT], core=13,
                constants={"by": np.array([1, 1, 2, 0.5], np.float32)})


    for size, by in ((5, 0.75), (5, 1.5), (5, 3.3), (8, 0.75), (8, 3.3)):
        for mode in ("linear", "cubic", "nearest"):
            for core in (11, 13, 18):
                tag = f"corners_{mode}_{size}_{by}_opset{core}"
                made = helper.make_node("Resize", ["x", "roi" if core == 11 else "", "by"], ["y0"], mode=mode,
                                        coordinate_transformation_mode="align_corners")
                regions = {"roi": np.zeros(0, np.float32)} if core == 11 else {}
                m.graph("Resize", tag, [made], {"x": m.floats(1, 1, size, size + 1, seed=344)}, [FLOAT], core=core,
                        constants=regions | {"by": np.array([1, 1, by, 2 * by / 3], np.float32)}, is_open=False)
    some = helper.make_node("Resize", ["x", "", "by"], ["y0"], mode="linear", coordinate_transformation_mode="align_corners", axes=[3, -2])
    m.graph("Resize", "corners_axes", [some], {"x": m.floats(1, 1, 5, 6, seed=344)}, [FLOAT], core=18,
            constants={"by": np.array([1.3, 0.75], np.float32)}, is_open=False)


def texts(m):
    skipping = dict(min_gram_length=1, max_gram_length=3, max_skip_count=2, ngram_counts=[0, 3, 7], ngram_indexes=[3, 0, 1, 2, 5, 4],
                    pool_strings=["a", "b", "zz", "b", "a", "a", "zz", "a", "b", "a"])
    row = m.words("b", "a", "zz", "a", "b", "q", "a")
    for mode in ("TF", "IDF", "TFIDF"):
        m.case("TfIdfVectorizer", f"skip_{mode.lower()}", {"x": row}, [FLOAT], domain="", mode=mode, **skipping)
        m.case("TfIdfVectorizer", f"skip_{mode.lower()}_weighted", {"x": np.stack([row, row[::-1]])}, [FLOAT], domain="", mode=mode,
               weights=[1.0, 2.0, 0.5, 3.0, 4.0, 0.25], **skipping)
    m.case("TfIdfVectorizer", "pairs_only", {"x": row}, [FLOAT], domain="", mode="TF", **(skipping | dict(min_gram_length=2, max_gram_length=2)))
    m.case("TfIdfVectorizer", "int32", {"x": np.array([[2, 3, 5, 2]], np.int32)}, [FLOAT], domain="", mode="TF", min_gram_length=1,
           max_gram_length=1, max_skip_count=0, ngram_counts=[0], ngram_indexes=[0, 1], pool_int64s=[2, 5])
    for name, more in (("upper_some", dict(case_change_action="UPPER", stopwords=["THE", "ok"], is_case_sensitive=0)),
                       ("sensitive_lower", dict(case_change_action="LOWER", stopwords=["THE"], is_case_sensitive=1)),
                       ("plain", dict(case_change_action="NONE")), ("all", dict(case_change_action="NONE", stopwords=["pump", "the", "ok"]))):
        fixed(m, "StringNormalizer", name, {"x": m.words("Pump", "THE", "ok")}, [STRING], 10, locale="C", **more)
    fixed(m, "StringNormalizer", "row", {"x": m.words(["Pump", "THE"])}, [STRING], 10, locale="C", case_change_action="LOWER", stopwords=["the"])
    for name, value in (("ints", np.array([0, -1, 2**31 - 1], np.int32)), ("int64", np.array([3, -3])), ("float", np.array([0.5, -1.5], np.float32)),
                        ("double", np.array([0.5, -1.5])), ("long_words", m.words("", "a", "ab", "abc", "abcd", "abcdefghü"))):
        m.case("MurmurHash3", f"{name}_positive", {"x": value}, [UINT32], domain="com.microsoft", positive=1, seed=7)
        m.case("MurmurHash3", f"{name}", {"x": value}, [INT32], domain="com.microsoft", positive=0)


def quantised(m):
    x, draw = m.floats(6, 8, seed=350), m.rng(351)
    into, back = node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "r t u", "y0")

    def graph(operator, name, nodes, constants, feeds={"x": x}):
        used = {title for each in nodes for title in each.input}
        m.graph(operator, name, nodes, feeds, [FLOAT], constants={key: value for key, value in constants.items() if key in used})

    for name, dtype, zero, out in (("uint8", np.uint8, 120, 130), ("int8", np.int8, -8, 3)):
        fixed = {"s": np.array(0.03, np.float32), "z": np.array(zero, dtype), "t": np.array(0.0217, np.float32), "u": np.array(out, dtype)}
        weights = fixed | {"w": draw.integers(-127, 128, (8, 4), dtype=np.int8), "ws": np.array(0.01, np.float32), "wz": np.array(2, np.int8)}
        graph("QLinearMatMul", name, [into, node("QLinearMatMul", "q s z w ws wz t u", "r"), back], weights)
        each = weights | {"ws": np.array([0.01, 0.02, 0.03, 0.04], np.float32), "wz": np.zeros(4, np.int8)}
        graph("QLinearMatMul", f"{name}_each", [into, node("QLinearMatMul", "q s z w ws wz t u", "r"), back], each)
        for operator, attributes in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", dict(alpha=0.1)), ("QLinearSoftmax", dict(opset=13, axis=-1))):
            scale = {"t": np.array(1 / 256, np.float32), "u": np.array(0 if dtype == np.uint8 else -128, dtype)} if operator != "QLinearLeakyRelu" else {}
            graph(operator, f"{name}_rows", [into, node(operator, "q s z t u", "r", "com.microsoft", **attributes), back], fixed | scale)
        for operator in ("QLinearAdd", "QLinearMul"):
            other = fixed | {"o": draw.integers(-100 if dtype == np.int8 else 0, 100, 8, dtype=dtype), "os": np.array(0.07, np.float32),
                             "oz": np.array(5, dtype)}
            graph(operator, f"{name}_row", [into, node(operator, "q s z o os oz t u", "r", "com.microsoft"), back], other)
        ties = other | {"t": np.array(0.02, np.float32)}
        graph("QLinearAdd", f"{name}_ties", [into, node("QLinearAdd", "q s z o os oz t u", "r", "com.microsoft"), back], ties)
        other = fixed | {"os": np.array(0.07, np.float32), "oz": np.array(5, dtype)}
        graph("QLinearConcat", name, [into, node("QuantizeLinear", "x os oz", "o"),
                                      node("QLinearConcat", "t u q s z o os oz", "r", "com.microsoft", axis=1), back], other)
        image = {"x": m.floats(2, 3, 5, 6, seed=352)}
        graph("QLinearGlobalAveragePool", name, [into, node("QLinearGlobalAveragePool", "q s z t u", "r", "com.microsoft", channels_last=0), back],
              fixed, image)
        graph("QLinearAveragePool", name, [into, node("QLinearAveragePool", "q s z t u", "r", "com.microsoft", kernel_shape=[2, 3], strides=[2, 1],
                                                      pads=[0, 1, 0, 1], count_include_pad=1), back], fixed, image)
    matrix = {"w": draw.integers(0, 255, (8, 4), dtype=np.uint8), "ws": np.array(0.01, np.float32), "wz": np.array(128, np.uint8),
              "b": draw.normal(size=4).astype(np.float32)}
    graph("DynamicQuantizeMatMul", "bias", [node("DynamicQuantizeMatMul", "x w ws wz b", "y0", "com.microsoft")], matrix)
    graph("DynamicQuantizeMatMul", "plain", [node("DynamicQuantizeMatMul", "x w ws wz", "y0", "com.microsoft")], matrix)
    steps = [node("DynamicQuantizeLinear", "x", "q s z"), node("MatMulIntegerToFloat", "q w s ws z wz b", "y0", "com.microsoft")]
    graph("MatMulIntegerToFloat", "bias", steps, matrix)
    m.case("CDist", "float64", {"x": m.floats(4, 3, seed=353).astype(np.float64)}, [DOUBLE], domain="com.microsoft",
           constants={"z": m.floats(5, 3, seed=354).astype(np.float64)}, metric="sqeuclidean")


def add(m):
    for make in (losses, windows, picks, images, numbers, texts, quantised):
        make(m)
