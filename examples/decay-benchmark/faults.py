"""Faults that are put into a feature: each takes the values from the onset on, the reference's standard deviation and a seed."""

from collections.abc import Callable

import numpy as np

Fault = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def bias(size: float) -> Fault:
    return lambda values, sd, rng: values + size * sd


def gain(values: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    return values * 1.2


def stuck(values: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    seen = values[np.isfinite(values)]
    return np.full_like(values, seen[0] if len(seen) else 0.0)


def noise(values: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Twice the reference's standard deviation: three times its variance comes on top."""
    return values + rng.normal(0, np.sqrt(3.0) * sd, len(values))


def missing(values: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(len(values)) < 0.2, np.nan, values)


def unit(values: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Fahrenheit for Celsius."""
    return 1.8 * values + 32


FAULTS: dict[str, Fault] = {
    "bias .5 sd": bias(0.5),
    "bias 1 sd": bias(1.0),
    "gain 1.2": gain,
    "stuck": stuck,
    "noise x2": noise,
    "missing 20 %": missing,
    "unit change": unit,
}
