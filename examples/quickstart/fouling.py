"""What a fouled lens does to an image: blur, a smudge, and fog that takes the contrast. The same pixels as
`examples/src/fouling.rs` makes; `data/fouled.csv` and the digests in `data/expected.json` hold the two together.

Whole numbers only, so no engine, compiler or CPU rounds otherwise:

1. blur: each pixel becomes the sum over its 3x3 neighbours, weighed (1, 4, 1) both ways, edges repeated; scale 36;
2. smudge: a square of 2x2 pixels, its place drawn by seed and number, is ink all over (16);
3. fog: 3 + 9/16 of what is there, rounded half up to whole grey values.
"""

import numpy as np

from digits import BRIGHTEST, Part
from draws import draw

CENTRE = 4
SCALE = (CENTRE + 2) ** 2
SMUDGE = 2
FOG = 3
GAIN = 9  # sixteenths
PLACES = 8 - SMUDGE + 1


def fouled(part: Part, seed: int) -> Part:
    """The part as a fouled lens shows it; row n is image number n."""
    spots = (draw(seed, np.arange(len(part))) % np.uint64(PLACES * PLACES)).astype(np.int64)
    seen = blurred(part.pixels.astype(np.int64).reshape(-1, 8, 8))
    for image, spot in zip(seen, spots):
        row, column = divmod(int(spot), PLACES)
        image[row : row + SMUDGE, column : column + SMUDGE] = int(BRIGHTEST) * SCALE
    foggy = (FOG * SCALE * 16 + seen * GAIN + SCALE * 8) // (SCALE * 16)
    return Part(foggy.reshape(-1, 64).astype(np.float64), part.labels)


def blurred(images: np.ndarray) -> np.ndarray:
    """Weighed sums over neighbours, [rows, 8, 8], SCALE times as bright."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + CENTRE * padded[:, 1:-1] + padded[:, 2:]
    return rows[:, :, :-2] + CENTRE * rows[:, :, 1:-1] + rows[:, :, 2:]
