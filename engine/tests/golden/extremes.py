"""Values far from the usual, and what is easily forgotten of them: the ends of curves, infinities, what is not a number, large means."""
import numpy as np
from onnx import TensorProto, helper

FLOAT, DOUBLE, HALF, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64
REFUSED = {}
FAR = np.array([[-np.inf, -1e30, -1e6, -100, -30, -18.5, -17, -15, -14, -12, -9, -5, -0.0, 0, 5, 9, 12, 15, 17, 30, 1e6, 1e30, np.nan]], np.float32)
node = helper.make_node


def curves(m):
    logs = lambda value: [node(value, ["x"], ["s"]), node("Log", ["s"], ["y0"])]
    m.graph("Sigmoid", "ends", logs("Sigmoid"), {"x": FAR}, [FLOAT])
    # Both ends come to exactly what is taken off here; between them bits are compared.
    one = {"one": np.float32(1), "k": np.float32(2 ** 26)}
    rest = lambda end: [node(end, ["x"], ["e"]), node("Abs", ["e"], ["a"]), node("Sub", ["one", "a"], ["r"]), node("Mul", ["r", "k"], ["y0"])]
    steps = np.concatenate([np.linspace(-20, 20, 401, dtype=np.float32)[None], m.floats(1, 90, seed=600) * 4], 1)
    for name, x in (("far", FAR), ("steps", steps)):
        m.graph("Tanh", name, rest("Tanh"), {"x": x}, [FLOAT], constants=one)
        m.graph("Sigmoid", name, rest("Sigmoid"), {"x": x}, [FLOAT], constants=one)
    m.graph("Sigmoid", "times_itself", [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y0"])], {"x": FAR}, [FLOAT])
    m.graph("Gelu", "by_tanh_far", [node("Gelu", ["x"], ["y0"], approximate="tanh")], {"x": FAR[:, 1:]}, [FLOAT], core=20)
    m.graph("QuickGelu", "far", [node("QuickGelu", ["x"], ["y0"], domain="com.microsoft")], {"x": FAR[:, 1:]}, [FLOAT])
    half = lambda operator: [node("Cast", ["x"], ["h"], to=HALF), node(operator, ["h"], ["s"]), node("Cast", ["s"], ["y0"], to=FLOAT)]
    for operator in ("Sigmoid", "Tanh"):
        m.graph(operator, "halves", half(operator), {"x": steps.astype(np.float16).astype(np.float32)}, [FLOAT])


def add(m):
    for make in (curves,):
        make(m)
