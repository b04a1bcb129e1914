"""Products of whole numbers, as quantisers write them that measure their inputs at run time."""
import numpy as np
from onnx import TensorProto, helper

INT32 = TensorProto.INT32
REFUSED = {}


def whole(m, seed, *shape, dtype=np.uint8):
    info = np.iinfo(dtype)
    return m.rng(seed).integers(info.min, info.max + 1, shape, dtype=dtype)


def product(m, operator, name, x, w, xz=None, wz=None, **attributes):
    """Over constant weights `w`, with their zero points and that of `x`."""
    constants = {"w": w} | ({} if xz is None else {"xz": xz}) | ({} if wz is None else {"wz": wz})
    inputs = ["x", "w", "xz" if xz is not None else "", "wz" if wz is not None else ""]
    while not inputs[-1]:
        inputs.pop()
    m.graph(operator, name, [helper.make_node(operator, inputs, ["y0"], **attributes)], {"x": x}, [INT32], constants=constants)


def convolutions(m):
    image, signal = whole(m, 600, 2, 3, 7, 6), whole(m, 601, 2, 4, 9)
    zero = np.array(131, np.uint8)
    product(m, "ConvInteger", "padded", image, whole(m, 602, 4, 3, 3, 3), zero, np.array(7, np.uint8), pads=[1, 1, 1, 1])
    product(m, "ConvInteger", "signed", image, whole(m, 603, 4, 3, 3, 3, dtype=np.int8), zero, np.array(-3, np.int8), strides=[2, 1])
    product(m, "ConvInteger", "plain", image, whole(m, 604, 4, 3, 1, 1))
    product(m, "ConvInteger", "line", signal, whole(m, 605, 6, 2, 3), zero, np.array(100, np.uint8), group=2, pads=[2, 0])
    far = np.full((2, 700, 3, 3), 255, np.uint8)
    product(m, "ConvInteger", "far", np.full((1, 700, 4, 4), 255, np.uint8), far, pads=[1, 1, 1, 1])
    far[1, 350:] = 3
    product(m, "ConvInteger", "uneven", whole(m, 606, 1, 700, 4, 4), far, zero, np.array(3, np.uint8))


def matrices(m):
    rows, zero = whole(m, 610, 5, 11), np.array(90, np.uint8)
    product(m, "MatMulInteger", "zeros", rows, whole(m, 611, 11, 4), zero, np.array(77, np.uint8))
    product(m, "MatMulInteger", "each", rows, whole(m, 612, 11, 4, dtype=np.int8), zero, np.array([1, -3, 127, -128], np.int8))
    product(m, "MatMulInteger", "plain", rows, whole(m, 613, 11, 4))
    product(m, "MatMulInteger", "stack", whole(m, 614, 2, 3, 5, 11), whole(m, 615, 3, 11, 4), zero)
    product(m, "MatMulInteger", "far", np.full((3, 1031), 255, np.uint8), np.full((1031, 2), 255, np.uint8))
    product(m, "MatMulInteger", "uneven", whole(m, 616, 3, 1031), np.tile(np.array([[255, 0]], np.uint8), (1031, 1)), zero)
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["y0"])]
    m.graph("MatMulInteger", "dynamic", nodes, {"x": m.floats(5, 11, seed=617)}, [INT32],
            constants={"w": whole(m, 618, 11, 4), "wz": np.array([3], np.uint8)})


def add(m):
    convolutions(m)
    matrices(m)
