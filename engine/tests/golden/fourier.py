"""Fourier transforms: lengths that cut and fill, axes, halves, and signals with and without imaginary parts."""
import numpy as np
from onnx import TensorProto, helper

FLOAT, DOUBLE, FLOAT16 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
REFUSED = {"STFT/shorter_window": "a window must be as long as a frame", "DFT/last_axis": "the last axis holds the parts",
           "DFT/complex_half": "one-sided transforms are of real signals, where it knows them beforehand", "DFT/inverse_half": "the same",
           "STFT/too_short": "a frame is longer than the signal"}


def fixed(m, operator, name, feeds, constants, core, inputs=None, dtype=FLOAT, is_open=True, **attributes):
    node = helper.make_node(operator, (inputs or " ".join([*feeds, *constants])).split(" "), ["y0"], **attributes)
    m.graph(operator, name, [node], feeds, [dtype], constants=constants, core=core, is_open=is_open)


def discrete(m):
    """Before opset 20 the axis is an attribute, and 1 where there is none."""
    real, both, deep = m.floats(3, 7, 1, seed=800), m.floats(3, 6, 2, seed=801), m.floats(2, 5, 4, 2, seed=802)
    for name, x, length, axis, more in (
            ("real", real, None, 1, {}), ("half", real, None, 1, dict(onesided=1)), ("complex", both, None, 1, {}),
            ("inverse", both, None, 1, dict(inverse=1)), ("inverse_real", real, None, 1, dict(inverse=1)),
            ("inverse_cut", both, 4, 1, dict(inverse=1)), ("filled", real, 10, 1, {}), ("filled_half", real, 16, 1, dict(onesided=1)), ("cut", both, 4, 1, {}), ("deep", deep, None, 1, {}),
            ("from_behind", deep, None, -2, {}), ("rows", deep, 3, 0, {}), ("prime", m.floats(2, 61, 1, seed=803), None, 1, {}),
            ("single", real[:, :1], None, 1, dict(onesided=1)), ("empty", real[:0], None, 1, dict(onesided=1))):
        constants = {} if length is None else {"length": np.array(length)}
        fixed(m, "DFT", name, {"x": x}, constants, 17, axis=axis, **more)
        inputs = "x length axis" if constants else "x  axis"
        fixed(m, "DFT", f"{name}_20", {"x": x}, constants | {"axis": np.array(axis)}, 20, inputs, **more)
    fixed(m, "DFT", "plain", {"x": deep}, {}, 17)
    fixed(m, "DFT", "plain_20", {"x": deep}, {}, 20)
    fixed(m, "DFT", "int32", {"x": real}, {"length": np.array(4, np.int32)}, 17)
    fixed(m, "DFT", "float64", {"x": both.astype(np.float64)}, {}, 17, dtype=DOUBLE)
    fixed(m, "DFT", "float16", {"x": both.astype(np.float16)}, {}, 17, dtype=FLOAT16)


def short_time(m):
    x, window = m.floats(3, 20, seed=810), np.hanning(6).astype(np.float32)
    both = m.floats(2, 20, 2, seed=811)
    for name, signal, step, fixed_window, length, more in (
            ("flat", x, 3, window, None, {}), ("parts", x[..., None], 3, window, None, {}), ("whole", x, 3, window, None, dict(onesided=0)),
            ("complex", both, 3, window, None, dict(onesided=0)), ("complex_half", both, 4, window, None, dict(onesided=1)),
            ("no_window", x, 3, None, 6, {}), ("both", x, 3, window, 6, {}), ("one_frame", x[:, :6], 3, window, None, {}),
            ("odd", x, 4, np.linspace(0, 1, 7, dtype=np.float32), None, {}), ("gaps", x, 7, None, 5, {}), ("empty", x[:0], 3, window, None, {})):
        constants = {"step": np.array(step)} | ({} if fixed_window is None else {"window": fixed_window})
        constants |= {} if length is None else {"length": np.array(length)}
        inputs = "x step  length" if fixed_window is None else None
        fixed(m, "STFT", name, {"x": signal}, constants, 17, inputs, **more)
    fixed(m, "STFT", "int32", {"x": x}, {"step": np.array(3, np.int32), "window": window}, 17)
    fixed(m, "STFT", "float64", {"x": x.astype(np.float64)}, {"step": np.array(3), "window": window.astype(np.float64)}, 17, dtype=DOUBLE)
    fixed(m, "STFT", "window_of_call", {"x": x, "window": window}, {"step": np.array(3)}, 17, "x step window", is_open=False)


def add(m):
    discrete(m)
    short_time(m)
