"""Bounds, axes and parameters at the ends of what a file can say: beyond every axis, empty, none, no number, more bits than there are."""
import numpy as np
from onnx import TensorProto, helper

from forms import fixed, node

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
REFUSED = {
    "Conv/wide": "windows wider than the image are an error at the call",
    "MaxPool/wide": "the same, but for windows that lack less than a step",
}


def slices(m):
    x = m.floats(7, 6, seed=700)
    least, most, less, more = -2 ** 63, 2 ** 63 - 1, -2 ** 31, 2 ** 31 - 1
    names = {least: "least", most: "most", less: "less", more: "more"}
    bounds = ((least, most), (most, least), (less, more), (more, less), (least, least), (most, most), (-3, most), (2, least), (2, more), (5, 2), (2, 5))
    for start, end in bounds:
        for step in (1, -2, 100, least):
            wide = {least, most} & {start, end, step}
            kind = np.int64 if wide or step == 100 else np.int32
            given = {key: np.array([value], kind) for key, value in zip("abcd", (start, end, 0, step))}
            name = "_".join(str(names.get(value, value)) for value in (start, end, step)).replace("-", "m")
            fixed(m, "Slice", f"odd_{name}", {"x": x}, [FLOAT], constants=given)
    for number, (start, end, axis) in enumerate(((least, most, -1), (-3, more, -2), (9, 12, 0), (4, 1, 1))):
        fixed(m, "Slice", f"opset9_{number}", {"x": x}, [FLOAT], 9, starts=[start], ends=[end], axes=[axis])
    fixed(m, "Slice", "opset9_all", {"x": x}, [FLOAT], 9, starts=[1, -2], ends=[-1, more])
    for number, (start, end, step) in enumerate(((-3, most, 1), (0, 99, 1), (least, -1, 2), (most, least, -1), (5, 1, -3), (1, 1, 1))):
        feeds = {"x": x, "a": np.array([start]), "b": np.array([end, 4])[:1]}
        fixed(m, "Slice", f"at_the_call_{number}", feeds, [FLOAT], constants={"c": np.array([-1]), "d": np.array([step])})
    whole = {"x": x, "a": np.array([1, -2]), "b": np.array([-1, most])}
    fixed(m, "Slice", "at_the_call_all", whole, [FLOAT], constants={"d": np.array([2, -1])}, inputs="x a b  d")


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


def reductions(m):
    x, none = np.abs(m.floats(2, 3, 2, seed=710)) + .5, np.zeros(0, np.int64)
    for operator in (f"Reduce{reduction}" for reduction in REDUCTIONS):
        for opset in (11, 17):
            if (operator, opset) != ("ReduceSum", 17):
                empty = helper.make_node(operator, ["x"], ["y0"], keepdims=opset // 17)
                empty.attribute.add(name="axes", type=7)
                m.graph(operator, f"empty_axes_{opset}", [empty], {"x": x}, [FLOAT], core=opset, is_open=False)
        for noop in (0, 1):
            given = dict(keepdims=0, noop_with_empty_axes=noop)
            fixed(m, operator, f"empty_axes_{noop}", {"x": x}, [FLOAT], 18, {"a": none}, **given)
            fixed(m, operator, f"no_axes_{noop}", {"x": x}, [FLOAT], 18, **given)
            fixed(m, operator, f"unnamed_axes_{noop}", {"x": x}, [FLOAT], 18, inputs="x ", **given)
        for kind in (np.int32, np.int64):
            least, most = np.iinfo(kind).min, np.iinfo(kind).max
            rows = [[most, 2, 3], [most, most, 1], [least, most, 2], [least, least, 5], [most // 2, 3, 7], [11, 13, 17], [-3, -2, -3], [4, -4, 0]]
            for name, axes in (("rows", {"a": np.array([1])}), ("all", {}), ("none", {"a": none})):
                fixed(m, operator, f"far_{name}_{np.dtype(kind).name}", {"x": np.array(rows, kind)}, [m.kind(np.zeros(1, kind))], 18, axes,
                      noop_with_empty_axes=int(name == "none"))


def triangles(m):
    x = np.arange(1, 31, dtype=np.float32).reshape(2, 3, 5)
    for name, k in (("least", -2 ** 63), ("most", 2 ** 63 - 1), ("near_most", 2 ** 63 - 2), ("less", -2 ** 31 - 1), ("more", 2 ** 32 + 1),
                    ("two", 2), ("minus_two", -2)):
        for upper in (0, 1):
            fixed(m, "Trilu", f"{name}_{upper}", {"x": x}, [FLOAT], constants={"k": np.array(k)}, upper=upper)
            fixed(m, "Trilu", f"row_{name}_{upper}", {"x": x, "k": np.array([k])}, [FLOAT], upper=upper)
    fixed(m, "Trilu", "no_distance", {"x": x.astype(np.float64)}, [DOUBLE])
    fixed(m, "Trilu", "not_numbers", {"x": np.full((3, 3), np.nan, np.float32)}, [FLOAT], upper=0)
    fixed(m, "Trilu", "truths", {"x": x > 3}, [TensorProto.BOOL])


def bends(m):
    x = np.array([[-np.inf, -1e30, -100, -20, -3, -1, -.5, -1e-6, -0.0, 0, 1e-6, .5, 1, 3, 100, 1e30, np.inf, np.nan]], np.float32)
    odd = (0, -1, .5, -2, 20, np.inf, -np.inf, np.nan)
    for operator in ("Celu", "Elu", "HardSigmoid", "LeakyRelu", "ThresholdedRelu"):
        # As Clip of 32 bits, HardSigmoid answers a number where there is none (docs/engine.md).
        seen = x[:, :-1] if operator == "HardSigmoid" else x
        for number, alpha in enumerate(odd):
            fixed(m, operator, f"odd_{number}", {"x": seen}, [FLOAT], 15, alpha=float(alpha))
        fixed(m, operator, "plain", {"x": seen}, [FLOAT], 15)
    for number, (alpha, gamma) in enumerate(((0, 1), (1, 0), (-1, 2), (np.inf, 1), (1, np.inf), (np.nan, 1), (2, -3))):
        fixed(m, "Selu", f"odd_{number}", {"x": x}, [FLOAT], 15, alpha=float(alpha), gamma=float(gamma))
    fixed(m, "Selu", "plain", {"x": x}, [FLOAT], 15)
    for number, beta in enumerate((0, -2, np.inf, np.nan)):
        fixed(m, "HardSigmoid", f"from_{number}", {"x": x[:, :-1]}, [FLOAT], 15, beta=float(beta))
    fixed(m, "Gelu", "by_tanh_double", {"x": m.floats(4, 5, seed=711).astype(np.float64) * 3}, [DOUBLE], 20, approximate="tanh")


def bits(m):
    for kind in (np.uint8, np.uint16, np.uint32, np.uint64):
        width, name, out = np.iinfo(kind).bits, np.dtype(kind).name, [m.kind(np.zeros(1, kind))]
        x = np.array([[1, 2, 255, 3], [128, 7, np.iinfo(kind).max, 0]], kind)
        for direction in ("LEFT", "RIGHT"):
            by = np.array([0, 1, width - 1, width], kind)
            fixed(m, "BitShift", f"{name}_{direction.lower()}", {"x": x, "by": by}, out, direction=direction)
            fixed(m, "BitShift", f"{name}_{direction.lower()}_all", {"x": x}, out, constants={"by": np.array(width + 9, kind)}, direction=direction)


def powers(m):
    for kind in (np.int32, np.int64):
        least, most, out = np.iinfo(kind).min, np.iinfo(kind).max, [m.kind(np.zeros(1, kind))]
        x = np.array([[least, most, 100000, 2 ** 30, 46341], [3, -3, -100000, 2, 0]], kind)
        for exponent in (0, 1, 2, 3, 5, 31, 63, 64, -1):
            name = f"far_{np.dtype(kind).name}_{exponent}".replace("-", "m")
            fixed(m, "Pow", name, {"x": x}, out, constants={"e": np.array(exponent, kind)})
            fixed(m, "Pow", f"{name}_float", {"x": x}, out, constants={"e": np.array([exponent], np.float32)})
        fixed(m, "Pow", f"far_{np.dtype(kind).name}_each", {"x": x, "e": np.array([2, 3, 2, 3, 5], kind)}, out)
        fixed(m, "Pow", f"far_{np.dtype(kind).name}_one", {"x": x[0, 2:3], "e": np.array([[2], [3]], kind)}, out)
        fixed(m, "Pow", f"far_{np.dtype(kind).name}_single", {"x": x[0, 2:3], "e": np.array([3], kind)}, out)
    real = np.abs(m.floats(3, 4, seed=712))
    fixed(m, "Pow", "float_by_double", {"x": real}, [FLOAT], constants={"e": np.array([.3, 2.5, -1, 2])})
    fixed(m, "Pow", "double_by_float", {"x": real.astype(np.float64)}, [DOUBLE], constants={"e": np.array([.3, 2.5, -1, 2], np.float32)})
    fixed(m, "Pow", "float_by_int64", {"x": real}, [FLOAT], constants={"e": np.array([0, 2, -1, 3])})


def greatest(m):
    x = np.round(m.floats(3, 8, seed=713) * 2)
    holes, ends = x.copy(), x.copy()
    holes[0, 3] = holes[1, 0] = holes[1, 5] = np.nan
    holes[2] = np.nan
    ends[0, 2], ends[1, 1], ends[2, :4] = np.inf, -np.inf, np.inf
    for name, rows in (("ties", x), ("nan", holes), ("infinite", ends)):
        for largest in (0, 1):
            for k in (0, 1, 3, 8):
                fixed(m, "TopK", f"{name}_{k}_{largest}", {"x": rows}, [FLOAT, INT64], constants={"k": np.array([k])}, largest=largest)
        fixed(m, "TopK", f"{name}_opset9", {"x": rows}, [FLOAT, INT64], 9, axis=0, k=2)
        fixed(m, "TopK", f"{name}_opset10", {"x": rows}, [FLOAT, INT64], 10, {"k": np.array([2])}, axis=0)


def moments(m):
    x = m.floats(2, 3, 4, 5, seed=714)
    for name, values in (("near", x), ("far", x + 16), ("little", x * 1e-9)):
        for number, axes in enumerate((None, [1], [2, 3], [-1, 0], [0, 1, 2, 3])):
            given = {} if axes is None else {"axes": axes}
            fixed(m, "MeanVarianceNormalization", f"{name}_{number}", {"x": values}, [FLOAT], **given)


def add(m):
    for make in (slices, reductions, triangles, bends, bits, powers, greatest, moments):
        make(m)
