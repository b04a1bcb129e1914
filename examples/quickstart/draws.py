"""Numbers drawn by seed, the same here and in `examples/src/draws.rs`: what is shared must not hang on a library's generator.

SplitMix64's output function (Steele, Lea and Flood, 2014), so that the n-th number needs none of those before it.
"""

import numpy as np

from digits import Part


def draw(seed: int, numbers: np.ndarray) -> np.ndarray:
    """The draw of `seed` at each of `numbers`, uint64."""
    return mixed(mixed(np.array([seed], dtype=np.uint64)) ^ numbers.astype(np.uint64))


def mixed(values: np.ndarray) -> np.ndarray:
    """One step of the generator from each state, modulo 2**64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def resampled(part: Part, seed: int, rows: int) -> Part:
    """`rows` images drawn from the part, with replacement."""
    chosen = (draw(seed, np.arange(rows)) % np.uint64(len(part))).astype(np.int64)
    return Part(part.pixels[chosen], part.labels[chosen])
