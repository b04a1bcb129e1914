"""Small neural networks, written node by node in the forms in which PyTorch and TensorFlow write theirs, and quantised ones."""
import functools
import logging
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Net:
    """A graph under construction: weights get a seeded value, nodes get a name for what they give."""

    def __init__(self, seed, opset=17):
        self.draw, self.opset = np.random.default_rng(seed), opset
        self.nodes, self.weights, self.inputs, self.feeds = [], [], [], {}

    def fed(self, name, *dims, high=None, free=("batch",), rows=64):
        """An input of `rows` rows of these dimensions: floats, or whole numbers below `high`."""
        value = self.draw.integers(0, high, (rows, *dims)) if high else self.draw.normal(size=(rows, *dims)).astype(np.float32)
        self.inputs.append(helper.make_tensor_value_info(name, INT64 if high else FLOAT, [*free, *dims[len(free) - 1:]]))
        self.feeds[name] = value
        return name

    def const(self, value, dtype=np.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def ints(self, *values):
        return self.const(values, np.int64)

    def weight(self, *dims):
        scale = 1 / np.sqrt(np.prod(dims[1:]) if len(dims) > 1 else 4)
        return self.const(self.draw.normal(size=dims) * scale)

    def __call__(self, operator, *inputs, outputs=1, domain="", **attributes):
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=f"n{len(self.nodes)}", domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def dense(self, x, fan_in, fan_out):
        return self("Gemm", x, self.weight(fan_out, fan_in), self.weight(fan_out), transB=1)

    def conv(self, x, fan_in, fan_out, *kernel, **attributes):
        w = self.weight(fan_out, fan_in // attributes.get("group", 1), *kernel)
        return self("Conv", x, w, self.weight(fan_out), kernel_shape=kernel, **attributes)

    def norm(self, x, channels):
        spread = self.const(0.5 + self.draw.random(channels))
        return self("BatchNormalization", x, self.weight(channels), self.weight(channels), self.weight(channels), spread)

    def model(self, *outputs, dtypes=None):
        out = [helper.make_tensor_value_info(name, dtype, None) for name, dtype in zip(outputs, dtypes or [FLOAT] * len(outputs))]
        graph = helper.make_graph(self.nodes, "net", self.inputs, out, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)],
                                 ir_version=8), self.feeds


def mlp(opset=17, activation="Relu"):
    n = Net(1, opset)
    x = n.fed("x", 20)
    x = n(activation, n.dense(x, 20, 32))
    return n.model(n("Softmax", n.dense(n(activation, n.dense(x, 32, 16)), 16, 5), axis=1))


def cnn(opset=17):
    n = Net(2, opset)
    x = n.fed("x", 1, 16, 16)
    x = n("Relu", n.norm(n.conv(x, 1, 8, 3, 3, pads=[1, 1, 1, 1]), 8))
    x = n("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = n("Relu", n.conv(x, 8, 12, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    return n.model(n("Softmax", n.dense(n("Flatten", x), 192, 10), axis=-1))


def mobile():
    """Depthwise blocks with squeeze and excitation, as MobileNetV3 has them."""
    n = Net(3)
    x = n("HardSwish", n.conv(n.fed("x", 3, 20, 20), 3, 8, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    y = n("Relu", n.conv(x, 8, 8, 5, 5, group=8, pads=[2, 2, 2, 2]))
    s = n("Relu", n.conv(n("GlobalAveragePool", y), 8, 4, 1, 1))
    y = n("Mul", y, n("HardSigmoid", n.conv(s, 4, 8, 1, 1), alpha=1 / 6, beta=0.5))
    x = n("Clip", n("Add", x, n.conv(y, 8, 8, 1, 1)), n.const(0.0), n.const(6.0))
    return n.model(n.dense(n("Flatten", n("GlobalAveragePool", x)), 8, 4))


def residual():
    n = Net(4)
    x = n.fed("x", 3, 12, 12)
    y = n("Relu", n.norm(n.conv(x, 3, 6, 3, 3, auto_pad="SAME_UPPER", strides=[2, 2]), 6))
    z = n("Add", n.norm(n.conv(y, 6, 6, 3, 3, pads=[1, 1, 1, 1]), 6), y)
    y = n("AveragePool", n("LeakyRelu", z, alpha=0.1), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    return n.model(n("ReduceMean", y, axes=[2, 3], keepdims=0))


def autoencoder():
    n = Net(5)
    x = n.fed("x", 1, 12, 12)
    code = n("Elu", n.conv(x, 1, 4, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    y = n("ConvTranspose", code, n.weight(4, 3, 2, 2), n.weight(3), strides=[2, 2], kernel_shape=[2, 2])
    y = n("Sigmoid", n.conv(n("PRelu", y, n.weight(3, 1, 1)), 3, 1, 3, 3, pads=[1, 1, 1, 1]))
    error = n("ReduceMean", n("Pow", n("Sub", x, y), n.const(2.0)), axes=[1, 2, 3], keepdims=0)
    return n.model(y, error)


def upsampling(mode):
    n = Net(6)
    x = n.conv(n.fed("x", 2, 6, 6), 2, 4, 3, 3, pads=[1, 1, 1, 1])
    more = dict(nearest_mode="floor", coordinate_transformation_mode="asymmetric") if mode == "nearest" else dict(
        coordinate_transformation_mode="half_pixel")
    up = n("Resize", x, "", n.const([1, 1, 2, 2]), mode=mode, **more)
    shuffled = n("DepthToSpace", x, blocksize=2, mode="CRD")
    return n.model(n.conv(n("Concat", up, shuffled, axis=1), 5, 1, 1, 1))


def temporal():
    """Dilated causal convolutions over a window of sensors."""
    n = Net(7)
    x = n.fed("x", 4, 24)
    for dilation, fan_in in ((1, 4), (2, 8), (4, 8)):
        padded = n("Pad", x, n.ints(0, 0, 2 * dilation, 0, 0, 0), n.const(0.0))
        x = n("Tanh", n.conv(padded, fan_in, 8, 3, dilations=[dilation]))
    last = n("Gather", x, n.const(-1, np.int64), axis=2)
    return n.model(n.dense(last, 8, 2))


def recurrent(kind, direction="forward", opset=17, states=False, **attributes):
    """A sequence of rows to one answer; with `states`, those go in and out as a streaming device keeps them."""
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if direction == "bidirectional" else 1
    n, hidden = Net(8, opset), 6
    x = n("Transpose", n.fed("x", 9, 3), perm=[1, 0, 2])
    inputs = [x, n.weight(ways, gates * hidden, 3), n.weight(ways, gates * hidden, hidden), n.weight(ways, 2 * gates * hidden)]
    if states:
        held = ["h"] + ["c"] * (kind == "LSTM")
        inputs += [""] + [n("Transpose", n.fed(name, ways, hidden), perm=[1, 0, 2]) for name in held]
    found = n(kind, *inputs, outputs=3 if kind == "LSTM" else 2, hidden_size=hidden, direction=direction, **attributes)
    every = n("Reshape", n("Transpose", found[0], perm=[2, 0, 1, 3]), n.ints(0, 0, ways * hidden))
    answer = n.dense(n("Gather", every, n.const(-1, np.int64), axis=1), ways * hidden, 3)
    return n.model(answer, every, *[n("Transpose", state, perm=[1, 0, 2]) for state in found[1:]])


def layer_norm(n, x, width, whole):
    scale, shift = n.weight(width), n.weight(width)
    if whole:
        return n("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)
    centred = n("Sub", x, n("ReduceMean", x, axes=[-1]))
    spread = n("Sqrt", n("Add", n("ReduceMean", n("Pow", centred, n.const(2.0)), axes=[-1]), n.const(1e-5)))
    return n("Add", n("Mul", n("Div", centred, spread), scale), shift)


def attention(whole=True, words=False, opset=17):
    """One block of a transformer with dynamic shapes, as PyTorch's exporter spells it: Shape, Gather, Concat, Reshape."""
    n, width, heads, length = Net(9, opset), 8, 2, 5
    if words:
        x = n("Gather", n.weight(30, width), n.fed("ids", length, high=30))
    else:
        x = n.fed("x", length, width)
    x = n("Add", x, n.weight(length, width))
    shape = n("Shape", x)
    sizes = [n("Unsqueeze", n("Gather", shape, n.const(at, np.int64), axis=0), n.ints(0)) for at in (0, 1)]
    split = n("Concat", *sizes, n.ints(heads), n.ints(width // heads), axis=0)
    parts = [n("Add", n("MatMul", x, n.weight(width, width)), n.weight(width)) for _ in range(3)]
    q, k, v = (n("Transpose", n("Reshape", part, split), perm=[0, 2, 3, 1] if i == 1 else [0, 2, 1, 3]) for i, part in enumerate(parts))
    likeness = n("Softmax", n("Div", n("MatMul", q, k), n.const(np.sqrt(width / heads))), axis=-1)
    mixed = n("Transpose", n("MatMul", likeness, v), perm=[0, 2, 1, 3])
    mixed = n("Reshape", mixed, n("Concat", *sizes, n.ints(width), axis=0))
    x = layer_norm(n, n("Add", x, n("MatMul", mixed, n.weight(width, width))), width, whole)
    y = n("MatMul", x, n.weight(width, 16))
    gelu = n("Mul", n("Mul", y, n("Add", n("Erf", n("Div", y, n.const(np.sqrt(2)))), n.const(1.0))), n.const(0.5))
    x = layer_norm(n, n("Add", x, n("MatMul", gelu, n.weight(16, width))), width, whole)
    pooled = n("ReduceMean", x, axes=[1], keepdims=0) if opset < 18 else n("ReduceMean", x, n.ints(1), keepdims=0)
    return n.model(n("LogSoftmax", n.dense(pooled, width, 3), axis=-1))


def channels_last():
    """TensorFlow's way: rows by columns by channels, transposed around each convolution, and labels by ArgMax."""
    n = Net(10, 13)
    x = n("Transpose", n.fed("x", 8, 8, 2), perm=[0, 3, 1, 2])
    x = n("Transpose", n("Relu", n.conv(x, 2, 4, 3, 3, auto_pad="SAME_LOWER")), perm=[0, 2, 3, 1])
    x = n("Reshape", n("ReduceMax", x, axes=[1], keepdims=0), n.ints(-1, 32))
    scores = n("Add", n("MatMul", x, n.weight(32, 4)), n.weight(4))
    return n.model(n("Softmax", scores), n("ArgMax", scores, axis=1, keepdims=0), dtypes=[FLOAT, INT64])


def recommender():
    """Embeddings of two ids beside a row of numbers, and their product."""
    n = Net(11)
    user, item = (n("Gather", n.weight(40, 6), n.fed(name, high=40)) for name in ("user", "item"))
    close = n("Einsum", user, item, equation="bi,bi->b")
    x = n("Concat", user, item, n("Unsqueeze", close, n.ints(1)), n.fed("x", 3), axis=1)
    return n.model(n("Sigmoid", n.dense(n("Selu", n.dense(x, 16, 8)), 8, 1)))


def detector():
    """Boxes of a grid, decoded, and the two best of them: Split, Exp, TopK, GatherElements."""
    n = Net(12)
    x = n("Reshape", n.conv(n.fed("x", 3, 6, 6), 3, 5, 1, 1), n.ints(0, 5, -1))
    centre, size, score = n("Split", x, n.ints(2, 2, 1), outputs=3, axis=1)
    boxes = n("Concat", n("Tanh", centre), n("Exp", size), axis=1)
    best, at = n("TopK", n("Sigmoid", score), n.ints(2), outputs=2, axis=2)
    return n.model(n("GatherElements", boxes, n("Tile", at, n.ints(1, 4, 1)), axis=2), best, at, dtypes=[FLOAT, FLOAT, INT64])


def group_norm():
    n = Net(13, 18)
    x = n.conv(n.fed("x", 2, 6, 6), 2, 6, 3, 3)
    grouped = n("InstanceNormalization", n("Reshape", x, n.ints(0, 2, -1)), n.const([1, 1]), n.const([0, 0]))
    x = n("Mish", n("Reshape", grouped, n.ints(0, 6, 4, 4)))
    x = n("Softplus", n("GlobalMaxPool", n("InstanceNormalization", x, n.weight(6), n.weight(6))))
    return n.model(n("Squeeze", x, n.ints(2, 3)))


def half():
    """Weights of 16 bits between casts."""
    n = Net(14)
    x = n("Cast", n.fed("x", 8), to=TensorProto.FLOAT16)
    x = n("Relu", n("Gemm", x, n.const(n.draw.normal(size=(8, 6)) / 3, np.float16), n.const(n.draw.normal(size=6), np.float16)))
    return n.model(n("Cast", x, to=FLOAT))


class Rows(quantization.CalibrationDataReader):
    def __init__(self, feeds):
        self.rows = iter([{name: value[i:i + 8] for name, value in feeds.items()} for i in range(0, 64, 8)])

    def get_next(self):
        return next(self.rows, None)


def quantised(make, how, **options):
    """A net quantised by onnxruntime's own tool."""
    def made():
        model, feeds = make()
        logging.disable()
        with tempfile.TemporaryDirectory() as folder:
            source, target, ready = (pathlib.Path(folder) / name for name in ("float.onnx", "int.onnx", "ready.onnx"))
            onnx.save(model, source)
            if how == "dynamic":
                quantization.quantize_dynamic(source, target, **options)
            else:
                quantization.quant_pre_process(str(source), str(ready))
                quantization.quantize_static(ready, target, Rows(feeds), quant_format=getattr(quantization.QuantFormat, how), **options)
            return onnx.load(target), feeds
    return made


def quantised_models():
    signed = dict(activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8)
    unsigned = dict(activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
    made = {}
    for name, net in {"mlp": mlp, "cnn": cnn, "temporal": temporal, "residual": residual, "attention": attention, "mobile": mobile}.items():
        made[f"net_{name}_dynamic"] = quantised(net, "dynamic", weight_type=quantization.QuantType.QUInt8)
        made[f"net_{name}_qdq"] = quantised(net, "QDQ", **signed)
        made[f"net_{name}_qdq_each"] = quantised(net, "QDQ", per_channel=True, **unsigned)
        made[f"net_{name}_qoperator"] = quantised(net, "QOperator", **unsigned)
    made["net_lstm_dynamic"] = quantised(functools.partial(recurrent, "LSTM"), "dynamic")
    made["net_mlp_dynamic_signed"] = quantised(mlp, "dynamic", weight_type=quantization.QuantType.QInt8)
    return made


def models():
    made = {f"net_mlp_opset{opset}": functools.partial(mlp, opset) for opset in (11, 13, 17, 21)}
    made |= {f"net_cnn_opset{opset}": functools.partial(cnn, opset) for opset in (11, 13, 21)}
    made |= {f"net_mlp_{name.lower()}": functools.partial(mlp, activation=name) for name in ("Sigmoid", "Softsign", "Celu")}
    made |= {f"net_{make.__name__}": make for make in (mobile, residual, autoencoder, temporal, channels_last, recommender, detector,
                                                       group_norm, half)}
    made |= {f"net_upsampling_{mode}": functools.partial(upsampling, mode) for mode in ("nearest", "linear")}
    for kind in ("LSTM", "GRU", "RNN"):
        made[f"net_{kind.lower()}"] = functools.partial(recurrent, kind)
        made[f"net_{kind.lower()}_both"] = functools.partial(recurrent, kind, "bidirectional")
        made[f"net_{kind.lower()}_reverse"] = functools.partial(recurrent, kind, "reverse")
        made[f"net_{kind.lower()}_states"] = functools.partial(recurrent, kind, states=True)
    made["net_gru_before_reset"] = functools.partial(recurrent, "GRU", linear_before_reset=1)
    made["net_lstm_opset13"] = functools.partial(recurrent, "LSTM", opset=13)
    made["net_attention"] = attention
    made["net_attention_spelt_out"] = functools.partial(attention, whole=False)
    made["net_attention_words"] = functools.partial(attention, words=True, opset=14, whole=False)
    return made | quantised_models()
