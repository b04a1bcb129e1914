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


def boxes(m):
    name, draw = "NonMaxSuppression", m.rng(610)
    corners, sizes = draw.random((2, 30, 2)), draw.random((2, 30, 2)) / 2
    scores = np.round(draw.random((2, 3, 30)), 1).astype(np.float32)
    feeds = {"b": np.concatenate([corners, corners + sizes], 2).astype(np.float32), "s": scores}
    flipped = {"b": np.concatenate([corners + sizes, corners], 2).astype(np.float32), "s": scores}
    centred = {"b": np.concatenate([corners, sizes], 2).astype(np.float32), "s": scores}
    whole = lambda *count: np.array(count[0] if len(count) == 1 else count, np.int64)
    real = lambda value: np.array(value, np.float32)

    def one(case, given, *bounds, **attributes):
        names, constants = ["b", "s"], {}
        for key, bound in zip("mio", bounds):
            names.append("" if bound is None else key)
            constants |= {} if bound is None else {key: bound}
        m.graph(name, case, [node(name, names, ["y0"], **attributes)], given, [INT64], constants=constants, is_open=False)

    one("none_asked_for", feeds, whole(0), real(0.3))
    one("nothing_said", feeds)
    one("only_overlap", feeds, None, real(0.3))
    one("plain_numbers", feeds, whole(5), real(0.5), real(0.25))
    one("rows", feeds, np.array([5]), np.array([0.5], np.float32), np.array([0.25], np.float32))
    one("negative", feeds, whole(-1), real(0.5))
    one("no_overlap_given", feeds, whole(4))
    one("no_overlap_but_score", feeds, whole(4), None, real(0.5))
    one("all_overlaps", feeds, whole(100), real(1.0))
    one("flipped", flipped, whole(100), real(0.2), real(0.0))
    one("centres", centred, whole(100), real(0.2), real(0.1), center_point_box=1)
    one("zero_score", feeds, whole(100), real(0.4), real(0.0))


def products(m):
    x, value = FAR.reshape(-1, 1), lambda number: np.array([number], np.float32)
    once = lambda operator, name, constant, first=False: m.graph(
        operator, name, [node(operator, ["c", "x"] if first else ["x", "c"], ["y0"])], {"x": x}, [FLOAT], constants={"c": constant})
    once("Mul", "by_zero", value(0))
    once("Mul", "zero_by", np.zeros((1, 1), np.float32), True)
    once("Mul", "by_minus_zero", value(-0.0))
    once("Mul", "by_wider_zero", np.zeros((1, 3), np.float32))
    once("Mul", "by_infinity", value(np.inf))
    once("Div", "by_zero", value(0))
    once("Div", "by_infinity", value(np.inf))
    once("Div", "by_little", value(1e-39))
    for name, first, second in (("MulMul", "Mul", "Mul"), ("DivMul", "Div", "Mul"), ("MulDiv", "Mul", "Div")):
        a, b = (1e-30 if first == "Div" else 1e30), (1e30 if second == "Div" else 1e-30)
        m.graph("Mul", f"there_and_back_{name.lower()}", [node(first, ["x", "a"], ["t"]), node(second, ["t", "b"], ["y0"])], {"x": x}, [FLOAT],
                constants={"a": value(a), "b": value(b)})
    flat = np.concatenate([x[:-1]] * 3, 1)
    m.graph("Gemm", "none_of_it", [node("Gemm", ["x", "w", "c"], ["y0"], alpha=0.0)], {"x": flat}, [FLOAT],
            constants={"w": np.eye(3, 2, dtype=np.float32), "c": np.ones(2, np.float32)})


def powers(m):
    x = FAR.reshape(-1, 1)
    for name, exponent in (("half", 0.5), ("square", 2.0), ("cube", 3.0), ("minus_one", -1.0), ("nothing", 0.0)):
        m.graph("Pow", name, [node("Pow", ["x", "e"], ["y0"])], {"x": x}, [FLOAT], constants={"e": np.array(exponent, np.float32)})
    draw = m.rng(620)
    for kind in (np.int32, np.int64):
        a, b = draw.integers(-9, 10, (5, 4)).astype(kind), draw.integers(-2, 9, (5, 4)).astype(kind)
        kindly = [node("Pow", ["a", "b"], ["y0"])]
        a[a == 0] = 1
        m.graph("Pow", np.dtype(kind).name, kindly, {"a": a, "b": b}, [m.kind(a)], core=17)
        m.graph("Pow", f"{np.dtype(kind).name}_rows", kindly, {"a": a, "b": b[:1]}, [m.kind(a)], core=17, is_open=False)
    large = np.array([[13, 41, 7, 3]])
    m.graph("Pow", "large", [node("Pow", ["a", "b"], ["y0"])], {"a": large, "b": np.array([[17, 11, 22, 39]])}, [INT64])


def bounds(m):
    x = FAR.reshape(-1, 1)[:-1]
    bound = lambda number: np.array(number, np.float32)
    for name, inputs, constants in (("no_bounds", ["x"], {}), ("no_most", ["x", "a"], {"a": bound(-2)}), ("no_least", ["x", "", "b"], {"b": bound(2)}),
                                    ("infinite_bounds", ["x", "a", "b"], {"a": bound(-np.inf), "b": bound(np.inf)})):
        m.graph("Clip", name, [node("Clip", inputs, ["y0"])], {"x": x}, [FLOAT], constants=constants)
    m.graph("Clip", "opset_6", [node("Clip", ["x"], ["y0"], min=-2.0)], {"x": x}, [FLOAT], core=9)
    m.graph("Clip", "whole", [node("Clip", ["x", "a"], ["y0"])], {"x": np.array([[-5, 1, 2 ** 62]])}, [INT64], constants={"a": np.array(0)})


def add(m):
    for make in (curves, boxes, products, powers, bounds):
        make(m)
