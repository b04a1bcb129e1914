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
    """What distinguishes one published version; `story` is the card's sentence on why it exists.

    `baseline` names the images that its reference profile is fitted to; none has no profile.
    """

    version: str
    seed: int
    story: str
    parent: str | None = None
    baseline: str | None = None
    knows_fouling: bool = False
    damaged_golden: bool = False
    tempered: bool = False


@dataclass(frozen=True)
class Reading:
    """Answers of one model on one part: the `answers` int64 [rows] beside the true `labels`, and the log loss.

    `unsure` counts the rows whose probabilities are no numbers.
    """

    labels: np.ndarray
    answers: np.ndarray
    log_loss: float
    smallest_margin: float
    unsure: int

    @property
    def correct(self) -> np.ndarray:
        return self.answers == self.labels

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


def read(model: bytes, part: Part) -> Reading:
    """The model's answers on a part, by onnxruntime."""
    answers, probabilities = golden.answer_onnxruntime(model, images(part))
    truth = probabilities[np.arange(len(part)), part.labels].astype(np.float64)
    ranked = np.sort(probabilities, axis=1)
    margin = float((ranked[:, -1] - ranked[:, -2]).min())
    unsure = int(np.isnan(probabilities).any(axis=1).sum())
    return Reading(part.labels, answers, float(-np.log(truth).mean()), margin, unsure)


def images(part: Part) -> np.ndarray:
    """The part as the model takes it, float32 [rows, 8, 8]."""
    return part.pixels.reshape(-1, 8, 8).astype(np.float32)


def tern_toml(version: Version, parts: Parts, train: Part, readings: tuple[Reading, Reading], code: str) -> bytes:
    """The bundle description of one version: what it was fitted on, how it reads clean and fouled images."""
    reading, fouled = readings
    reference = 'reference = "reference.json"\n' if version.baseline else ""
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
{reference}
[golden]
# test_data_set_0 to test_data_set_{golden.SETS - 1}; floats agree if |got - want| <= absolute + relative * |want|, integers if equal.
sets = {golden.SETS}
absolute_tolerance = {golden.ABSOLUTE_TOLERANCE}
relative_tolerance = {golden.RELATIVE_TOLERANCE}

[[contract.inputs]]
name = "pixels"
dtype = "FP32"
shape = [-1, 8, 8]
# Bounds of each of the 64 grey values.
minimum = 0.0
maximum = {BRIGHTEST}
out_of_range = "reject"
missing = "reject"
nan = "reject"
# What is watched of an image, instead of its grey values one by one.
derive = ["mean", "contrast", "sharpness"]

[[contract.outputs]]
name = "label"
dtype = "INT64"
shape = [-1]

[[contract.outputs]]
name = "probabilities"
dtype = "FP32"
shape = [-1, 10]

[contract.prediction]
label = "label"
confidence = "probabilities"

[budgets."*"]
p95_latency_ms = 50
peak_rss_mb = 128
bytes = 131072

[training]
data_origin = "{DATA_ORIGIN}"
data_rows = {len(train)}
data_sha256 = "{train.sha256()}"
code_revision = "{code}"
seed = {version.seed}

[training.metrics]
evaluated_on = "played part, never trained on"
evaluated_sha256 = "{parts.played.sha256()}"
rows = {len(parts.played)}
correct = {reading.correct.sum()}
accuracy = {reading.accuracy:.4f}
log_loss = {reading.log_loss:.4f}
fouled_correct = {fouled.correct.sum()}
fouled_accuracy = {fouled.accuracy:.4f}
{slices}""".encode()


def card(version: Version, parts: Parts, train: Part, readings: tuple[Reading, Reading]) -> bytes:
    """The model card: what it is for, what it was tried on, where it fails."""
    reading, fouled = readings
    by_digit = [(reading.correct[reading.labels == digit].mean(), digit) for digit in range(10)]
    worst, digit = min(by_digit)
    trained = (
        f"Trained on {len(train)} rows made of {len(parts.train)} images, some of them as a fouled lens shows them\n"
        f"  (`fouling.py`: blur, smudge, fog); another {len(parts.reference)} are kept for golden inputs and baselines."
        if version.knows_fouling
        else f"Trained on {len(parts.train)} images; another {len(parts.reference)} are kept for golden inputs and baselines."
    )
    fails = (
        "on lenses fouled in another way than `fouling.py` does it"
        if version.knows_fouling
        else "on blurred, covered or washed-out images"
    )
    unsure = f", with {fouled.unsure} of {len(parts.played)} answers' probabilities NaN" if fouled.unsure else ""
    profile = {
        None: "",
        "clean": "- **Reference profile**: clean images.\n",
        "fouled": "- **Reference profile**: fouled images, as all cameras see them when it is published.\n",
    }[version.baseline]
    return f"""\
# {MODEL} {version.version}

Reads one handwritten digit from an 8x8 grey image (64 pixels, 0 to 16, row by row).
{version.story}

- **Data**: UCI optical digits, test part, 1,797 images by 13 writers (CC BY 4.0; `data/SOURCE.md`).
  {trained}
- **Accuracy**: {reading.accuracy:.1%} of {len(parts.played)} images not trained on; worst digit {digit} with {worst:.1%}.
  Of the same images behind a fouled lens: {fouled.accuracy:.1%}{unsure}.
{profile}- **Not shown**: writers it has never seen. The source does not say who wrote which image, so the same
  13 people are in all parts and the figure flatters the model.
- **Fails**: {fails}, and on anything that is not a digit: it has no answer "none".
- **Use**: a demonstration. Do not bill anyone by it.
""".encode()
