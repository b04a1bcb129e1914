"""The real digits: loaded, checked against a pinned digest, split into three disjoint parts.

Never trains, never writes.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn.datasets
from sklearn.model_selection import train_test_split

IMAGES_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
SPLIT_SEED = 1998
REFERENCE_ROWS = 357
PLAYED_ROWS = 640
BRIGHTEST = 16.0


@dataclass(frozen=True)
class Part:
    """Images of one part: `pixels` float64 [rows, 64] holding whole numbers 0..16, `labels` int64 [rows]."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def csv(self) -> bytes:
        """One header line, then one line an image: the label and its 64 pixels, row by row from the top left."""
        header = "label," + ",".join(f"p{row}{column}" for row in range(8) for column in range(8))
        lines = (
            ",".join(str(int(number)) for number in (label, *pixels))
            for label, pixels in zip(self.labels, self.pixels)
        )
        return ("\n".join([header, *lines]) + "\n").encode()

    def sha256(self) -> str:
        """SHA-256 of `csv()`, so anyone can check the digest without Python objects."""
        return hashlib.sha256(self.csv()).hexdigest()


@dataclass(frozen=True)
class Parts:
    """`train` is fitted on; `reference` is for golden inputs and baselines; `played` is what the cameras see."""

    train: Part
    reference: Part
    played: Part


def load() -> Parts:
    """The three parts, stratified by digit; raises if scikit-learn bundles other data than we know."""
    bundled = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    digest = hashlib.sha256(gzip.decompress(bundled.read_bytes())).hexdigest()
    if digest != IMAGES_SHA256:
        raise SystemExit(f"scikit-learn's digits.csv has digest {digest}, expected {IMAGES_SHA256}")

    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    rest, played = train_test_split(
        np.arange(len(labels)), test_size=PLAYED_ROWS, stratify=labels, random_state=SPLIT_SEED
    )
    train, reference = train_test_split(
        rest, test_size=REFERENCE_ROWS, stratify=labels[rest], random_state=SPLIT_SEED
    )
    parts = Parts(*(Part(pixels[rows], labels[rows].astype(np.int64)) for rows in (train, reference, played)))
    refuse_shared_images(parts)
    return parts


def refuse_shared_images(parts: Parts) -> None:
    """Raises if one image, compared by its pixels and not by its row number, stands in two parts."""
    images = [{row.tobytes() for row in part.pixels} for part in (parts.train, parts.reference, parts.played)]
    if len(set().union(*images)) != sum(len(part) for part in (parts.train, parts.reference, parts.played)):
        raise SystemExit("the parts share an image: accuracy on the played part would be flattered")
