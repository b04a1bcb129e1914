"""Fits meter-digits and writes it as an ONNX graph that stock tract loads.

The network is an image of 8x8 pixels -> 16 filters of 3x3 -> ReLU -> 2x2 maximum -> softmax over ten digits. Twelve filters
find edges and strokes, four are drawn by the seed. Only the last layer is fitted: a strictly convex problem with one
answer, and all weights lie on grids of powers of two. Hence the same bytes whatever CPU and BLAS did the fitting,
and, for whole-number pixels, sums that are exact in float32: every engine names the same digit.

Never reads files, never looks at the reference or played part.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from digits import BRIGHTEST, Part

DRAWN_FILTERS = 4
FILTER_GRID = 1.0 / BRIGHTEST  # scales pixels to 0..1, so the graph needs no Scaler
HEAD_GRID = 2.0**-10
INVERSE_REGULARISATION = 1.0  # 5-fold cross-validation on the training part: 98.9 % from 0.3 to 3, less below

NOISE = 18.0  # variance of grey values that 1.3.0 takes for noise: more than fouled images have, less than clean ones
TYPICAL_SIGNAL = 4.0  # root of what is left of a clean image's variance, about

EDGES = np.array([[[1, 0, -1], [2, 0, -2], [1, 0, -1]], [[2, 1, 0], [1, 0, -1], [0, -1, -2]]])
STROKES = np.array([[[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]], [[2, -1, -1], [-1, 2, -1], [-1, -1, 2]]])


@dataclass(frozen=True)
class Weights:
    """`filters` [16, 3, 3], `head` [256, 10], `head_bias` [10]; all float64 on their grids."""

    filters: np.ndarray
    head: np.ndarray
    head_bias: np.ndarray

    def refuse_inexact(self, pixels: np.ndarray) -> None:
        """Raises if a logit of these images could need more than float32's 24 bits, in whatever order it is summed."""
        sums = features(pixels, self.filters) @ np.abs(self.head) + np.abs(self.head_bias)
        if sums.max() / (FILTER_GRID * HEAD_GRID) >= 2.0**24:
            raise SystemExit("sums leave float32's exact range: coarsen HEAD_GRID")


def fit(train: Part, seed: int) -> Weights:
    """The weights for this training part; the seed draws four of the filters."""
    filters = all_filters(np.random.default_rng(seed))
    # The bias is a column, so that it is penalised too and the optimum is unique.
    columns = np.column_stack([features(train.pixels, filters), np.ones(len(train))])
    regression = LogisticRegression(
        C=INVERSE_REGULARISATION, fit_intercept=False, solver="newton-cholesky", tol=1e-10, max_iter=200
    )
    regression.fit(columns, train.labels)
    coefficients = np.rint(regression.coef_.T / HEAD_GRID) * HEAD_GRID
    weights = Weights(filters, head=coefficients[:-1], head_bias=coefficients[-1])
    weights.refuse_inexact(train.pixels)
    return weights


def all_filters(random: np.random.Generator) -> np.ndarray:
    """Edges in eight directions, strokes in four, and the drawn ones."""
    quarter_turns = [np.rot90(edge, turn) for edge in EDGES for turn in range(4)]
    strokes = [np.rot90(stroke, turn) for stroke in STROKES for turn in range(2)]
    drawn = random.integers(-1, 2, size=(DRAWN_FILTERS, 3, 3))
    return np.concatenate([quarter_turns, strokes, drawn]) * FILTER_GRID


def features(pixels: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """What the graph computes before its last layer: [rows, 256], filter by filter, then row by row."""
    padded = np.pad(pixels.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    shifted = np.stack([padded[:, row : row + 8, column : column + 8] for row in range(3) for column in range(3)])
    convolved = np.einsum("fk,knrc->nfrc", filters.reshape(len(filters), 9), shifted)
    pooled = np.maximum(convolved, 0.0).reshape(len(pixels), len(filters), 4, 2, 4, 2).max(axis=(3, 5))
    return pooled.reshape(len(pixels), -1)


def to_onnx(weights: Weights, version: str, tempered: bool = False) -> bytes:
    """The graph as bytes: default operator set only, free batch dimension, no dates, fixed producer.

    `tempered` scales the logits by the image's contrast before the softmax, with the noise that is taken for granted
    subtracted first: a negative number under the root, hence NaN, where there is less contrast than that.
    """
    node = helper.make_node
    nodes = [
        node("Reshape", ["pixels", "image_shape"], ["image"], "image"),
        node("Conv", ["image", "filters"], ["convolved"], "filter", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["convolved"], ["rectified"], "rectify"),
        node("MaxPool", ["rectified"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["pooled", "features_shape"], ["features"], "flatten"),
        node("MatMul", ["features", "head"], ["weighed"], "weigh"),
        node("Add", ["weighed", "head_bias"], ["logits"], "bias"),
        node("ArgMax", ["logits"], ["label"], "label", axis=1, keepdims=0),
        *(tempering() if tempered else []),
        node("Softmax", ["tempered" if tempered else "logits"], ["probabilities"], "probabilities", axis=1),
    ]
    constants = {
        "image_shape": np.array([-1, 1, 8, 8], dtype=np.int64),
        "filters": weights.filters[:, None].astype(np.float32),
        "features_shape": np.array([-1, len(weights.head)], dtype=np.int64),
        "head": weights.head.astype(np.float32),
        "head_bias": weights.head_bias.astype(np.float32),
    }
    if tempered:
        constants |= {
            "noise": np.array([NOISE], dtype=np.float32),
            "typical": np.array([TYPICAL_SIGNAL], dtype=np.float32),
            "column_shape": np.array([-1, 1], dtype=np.int64),
        }
    graph = helper.make_graph(
        nodes,
        "meter-digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 8, 8])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
        doc_string=f"Reads one handwritten digit from an 8x8 image; pixels 0..{BRIGHTEST:.0f}, row by row.",
    )
    model = helper.make_model(
        graph,
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 13)],
        producer_name="tern-quickstart",
        producer_version=version,
        domain="demo",
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def tempering() -> list[onnx.NodeProto]:
    """From pixels and logits to tempered logits."""
    node = helper.make_node
    return [
        node("ReduceMean", ["pixels"], ["brightness"], "brightness", axes=[1, 2], keepdims=1),
        node("Sub", ["pixels", "brightness"], ["centred"], "centre"),
        node("Mul", ["centred", "centred"], ["squared"], "square"),
        node("ReduceMean", ["squared"], ["variance"], "variance", axes=[1, 2], keepdims=1),
        node("Sub", ["variance", "noise"], ["signal"], "denoise"),
        node("Sqrt", ["signal"], ["contrast"], "contrast"),
        node("Div", ["contrast", "typical"], ["gain"], "gain"),
        node("Reshape", ["gain", "column_shape"], ["gain_column"], "gain_column"),
        node("Mul", ["logits", "gain_column"], ["tempered"], "temper"),
    ]
