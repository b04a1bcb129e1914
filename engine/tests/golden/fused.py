"""Operators of onnxruntime's own domain, which its optimiser writes into the files of transformers. Those of quantised nets are in `core` and `rare`."""
import numpy as np
from onnx import TensorProto, helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
REFUSED = {}


def fused(m, operator, name, feeds, outputs, inputs, constants=None, domain="com.microsoft", is_open=True, **attributes):
    made = helper.make_node(operator, inputs.split(" "), outputs.split(" "), domain=domain, **attributes)
    m.graph(operator, name, [made], feeds, [FLOAT] * sum(1 for output in outputs.split(" ") if output), constants=constants, is_open=is_open)


def activations(m):
    x, bias = m.floats(3, 4, 8, seed=500) * 3, {"b": m.floats(8, seed=501)}
    fused(m, "BiasGelu", "last", {"x": x}, "y0", "x b", bias)
    fused(m, "Gelu", "exact", {"x": x}, "y0", "x")
    fused(m, "FastGelu", "plain", {"x": x}, "y0", "x")
    fused(m, "FastGelu", "bias", {"x": x}, "y0", "x b", bias)
    fused(m, "QuickGelu", "plain", {"x": x}, "y0", "x")
    fused(m, "QuickGelu", "alpha", {"x": x}, "y0", "x", alpha=1.0)


def norms(m):
    x, skip = m.floats(3, 4, 8, seed=502), m.floats(3, 4, 8, seed=503)
    gamma, beta, bias = ({name: m.floats(8, seed=seed)} for name, seed in (("g", 504), ("b", 505), ("s", 506)))
    for name, inputs, constants in (("whole", "x k g b s", gamma | beta | bias), ("no_bias", "x k g b", gamma | beta), ("no_beta", "x k g", gamma),
                                    ("bias_only", "x k g  s", gamma | bias)):
        fused(m, "SkipLayerNormalization", name, {"x": x, "k": skip}, "y0", inputs, constants, epsilon=1e-6)
        if "b" not in inputs:
            fused(m, "SkipSimplifiedLayerNormalization", name, {"x": x, "k": skip}, "y0", inputs.replace("  ", " "), constants, epsilon=1e-6)
    fused(m, "SkipLayerNormalization", "sum", {"x": x, "k": skip}, "y0   y1", "x k g b s", gamma | beta | bias)
    fused(m, "SkipSimplifiedLayerNormalization", "sum", {"x": x, "k": skip}, "y0   y1", "x k g", gamma)
    fused(m, "SkipLayerNormalization", "one_row", {"x": x, "k": skip[:1]}, "y0", "x k g b", gamma | beta, is_open=False)
    for operator in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"):
        fused(m, operator, "small", {"x": x / 1000, "k": skip / 1000}, "y0", "x k g", gamma)
    fused(m, "SimplifiedLayerNormalization", "last", {"x": x}, "y0", "x g", gamma, domain="", axis=-1)
    fused(m, "SimplifiedLayerNormalization", "rows", {"x": x}, "y0", "x g", {"g": m.floats(4, 8, seed=507)}, domain="", axis=1)


def blocks(m):
    draw = m.rng(520)
    packed = {"w": draw.integers(0, 256, (6, 2, 8), dtype=np.uint8), "s": m.floats(12, seed=521) ** 2}
    x = m.floats(3, 32, seed=522)
    shape = {"K": 32, "N": 6, "bits": 4, "block_size": 16}
    fused(m, "MatMulNBits", "plain", {"x": x}, "y0", "x w s", packed, **shape)
    zeros = {"z": draw.integers(0, 256, 6, dtype=np.uint8)}
    fused(m, "MatMulNBits", "zeros", {"x": x}, "y0", "x w s z", packed | zeros, **shape)
    fused(m, "MatMulNBits", "bias", {"x": x}, "y0", "x w s   b", packed | {"b": m.floats(6, seed=523)}, **shape)
    table = {"w": draw.integers(0, 256, (9, 16), dtype=np.uint8), "s": m.floats(9, 2, seed=524)}
    at = {"i": np.array([[0, 8], [3, 3]])}
    fused(m, "GatherBlockQuantized", "rows", at, "y0", "w i s", table, gather_axis=0, quantize_axis=1, block_size=16, bits=4)


def products(m):
    x, w, c = m.floats(5, 6, seed=530), m.floats(6, 4, seed=531), m.floats(4, seed=532)
    ends = {"Relu": {}, "Sigmoid": {}, "Tanh": {}, "LeakyRelu": {"activation_alpha": .2}, "HardSigmoid": {"activation_alpha": .3, "activation_beta": .4}}
    for name, given in ends.items():
        fused(m, "FusedGemm", name.lower(), {"x": x}, "y0", "x w c", {"w": w, "c": c}, activation=name, **given)
    fused(m, "FusedGemm", "turned", {"x": x}, "y0", "x w c", {"w": w.T.copy(), "c": c}, activation="Relu", transB=1, alpha=.5, beta=2.)
    image, k, b = m.floats(2, 3, 6, 7, seed=533), m.floats(4, 3, 3, 3, seed=534), m.floats(4, seed=535)
    lists = {"LeakyRelu": [.2], "HardSigmoid": [.3, .4], "Clip": [-.5, .75]}
    for name in ("Relu", "Sigmoid", "Tanh", *lists):
        more = {"activation_params": lists[name]} if name in lists else {}
        fused(m, "FusedConv", name.lower(), {"x": image}, "y0", "x k b", {"k": k, "b": b}, activation=name, pads=[1, 0, 1, 0], strides=[2, 1], **more)
    fused(m, "FusedConv", "sum", {"x": image}, "y0", "x k b z", {"k": k, "b": b, "z": m.floats(2, 4, 4, 5, seed=536)}, activation="Relu", is_open=False)
    fused(m, "FusedConv", "sum_no_bias", {"x": image}, "y0", "x k  z", {"k": k, "z": m.floats(2, 4, 4, 5, seed=536)}, activation="Relu", is_open=False)
    for name, (a, b) in {"rows": ((5, 6), (6, 4)), "stack": ((2, 3, 5, 6), (2, 3, 6, 4)), "stretched": ((2, 1, 5, 6), (3, 6, 4))}.items():
        a, b = m.floats(*a, seed=537), m.floats(*b, seed=538)
        for ta, tb in ((0, 0), (0, 1), (1, 0), (1, 1)):
            left, right = (np.swapaxes(value, -1, -2).copy() if turned else value for value, turned in ((a, ta), (b, tb)))
            fused(m, "FusedMatMul", f"{name}_{ta}{tb}", {"x": left, "z": right}, "y0", "x z", transA=ta, transB=tb, alpha=.125 if ta or tb else 1., is_open=False)


def add(m):
    for make in (activations, norms, blocks, products):
        make(m)
