"""Bounds, axes and parameters at the ends of what a file can say: beyond every axis, empty, none, no number, more bits than there are."""
import numpy as np
from onnx import TensorProto, helper

from forms import fixed, node

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
REFUSED = {}


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


def add(m):
    for make in (slices,):
        make(m)
