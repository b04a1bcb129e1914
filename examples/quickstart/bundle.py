"""One version's folder: `tern.toml` (what `tern model publish` reads), the card, and how well the model reads.

Never fits, never writes. Keys of `tern.toml` follow the manifest, snake_case, units in their names.
"""

from dataclasses import dataclass

import numpy as np

import golden
from digits import BRIGHTEST, Part, Parts

MODEL = "demo/meter-digits"
DATA_ORIGIN = (
    "UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, "
    "doi 10.24432/C50P49, CC BY 4.0; test part as bundled with scikit-learn"
)


@dataclass(frozen=True)
class Version:
    """What distinguishes one published version; `story` is the card's sentence on why it exists."""

    version: str
    seed: int
    story: str
    parent: str | None = None
    damaged_golden: bool = False


@dataclass(frozen=True)
class Reading:
    """Answers of one model on one part: the `answers` int64 [rows] beside the true `labels`, and the log loss."""

    labels: np.ndarray
    answers: np.ndarray
    log_loss: float
    smallest_margin: float

    @property
    def correct(self) -> np.ndarray:
        return self.answers == self.labels

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


def read(model: bytes, part: Part) -> Reading:
    """The model's answers on a part, by onnxruntime."""
    answers, probabilities = golden.answer_onnxruntime(model, part.pixels.astype(np.float32))
    truth = probabilities[np.arange(len(part)), part.labels].astype(np.float64)
    ranked = np.sort(probabilities, axis=1)
    return Reading(part.labels, answers, float(-np.log(truth).mean()), float((ranked[:, -1] - ranked[:, -2]).min()))


def tern_toml(version: Version, parts: Parts, reading: Reading, code_revision: str) -> bytes:
    """The bundle description of one version."""
    parent = f'parent = "{version.parent}"\n' if version.parent else ""
    slices = "".join(
        f'\n[[training.slices]]\nname = "digit"\nvalue = "{digit}"\nrows = {len(right)}\ncorrect = {right.sum()}\n'
        f"accuracy = {right.mean():.4f}\n"
        for digit in range(10)
        for right in [reading.correct[reading.labels == digit]]
    )
    return f"""\
# Written by train.py; edit there. `tern model publish` makes the signed manifest out of this folder.
format = 1
model = "{MODEL}"
version = "{version.version}"
{parent}device_classes = ["*"]
minimum_agent = "0.1.0"

[files]
model = "model.onnx"
card = "card.md"

[golden]
# test_data_set_0 to test_data_set_{golden.SETS - 1}; floats agree if |got - want| <= absolute + relative * |want|, integers if equal.
sets = {golden.SETS}
absolute_tolerance = {golden.ABSOLUTE_TOLERANCE}
relative_tolerance = {golden.RELATIVE_TOLERANCE}

[[contract.inputs]]
name = "pixels"
dtype = "FP32"
shape = [-1, 64]
# Bounds of each of the 64 features.
minimum = 0.0
maximum = {BRIGHTEST}
out_of_range = "reject"
missing = "reject"
nan = "reject"

[[contract.outputs]]
name = "label"
dtype = "INT64"
shape = [-1]

[[contract.outputs]]
name = "probabilities"
dtype = "FP32"
shape = [-1, 10]

[budgets."*"]
p95_latency_ms = 50
peak_rss_mb = 128
bytes = 131072

[training]
data_origin = "{DATA_ORIGIN}"
data_rows = {len(parts.train)}
data_sha256 = "{parts.train.sha256()}"
code_revision = "{code_revision}"
seed = {version.seed}

[training.metrics]
evaluated_on = "played part, never trained on"
evaluated_sha256 = "{parts.played.sha256()}"
rows = {len(parts.played)}
correct = {reading.correct.sum()}
accuracy = {reading.accuracy:.4f}
log_loss = {reading.log_loss:.4f}
{slices}""".encode()


def card(version: Version, parts: Parts, reading: Reading) -> bytes:
    """The model card: what it is for, what it was tried on, where it fails."""
    by_digit = [(reading.correct[reading.labels == digit].mean(), digit) for digit in range(10)]
    worst, digit = min(by_digit)
    return f"""\
# {MODEL} {version.version}

Reads one handwritten digit from an 8x8 grey image (64 pixels, 0 to 16, row by row).
{version.story}

- **Data**: UCI optical digits, test part, 1,797 images by 13 writers (CC BY 4.0; `data/SOURCE.md`).
  Trained on {len(parts.train)} images; another {len(parts.reference)} are kept for golden inputs and baselines.
- **Accuracy**: {reading.accuracy:.1%} of {len(parts.played)} images not trained on; worst digit {digit} with {worst:.1%}.
- **Not shown**: writers it has never seen. The source does not say who wrote which image, so the same
  13 people are in all parts and the figure flatters the model.
- **Fails**: on blurred, covered or washed-out images, and on anything that is not a digit: it has no answer "none".
- **Use**: a demonstration. Do not bill anyone by it.
""".encode()
