"""Rules of other monitors on the same windows, written from their documentation: what they say of each window.

- KS with Bonferroni: two-sample Kolmogorov-Smirnov of the window against the reference, p < .05 over the features.
- PSI > 0.2 over the reference's deciles.
- JS mean + 3 sd: Jensen-Shannon distance over the deciles, against the reference windows' own mean plus three deviations.
- ADWIN of river, row by row, with its defaults: a window in which it finds a change.
"""

import numpy as np
import pandas as pd
from river.drift import ADWIN
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

FEWEST = 5
"""Values that a window must have to be judged."""


def windows(rows: pd.DataFrame, window: str) -> list[pd.DataFrame]:
    """Rows cut as `tern decay` cuts them: by day in UTC, or `rows:N`, an unfilled last one dropped."""
    if window == "day":
        return [group for _, group in rows.groupby(rows.time.dt.normalize())]
    size = int(window.removeprefix("rows:"))
    return [rows.iloc[at : at + size] for at in range(0, len(rows) - size + 1, size)]


def shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares of `values` in the cells between `edges`, open at both ends: one cell more than edges, sum 1."""
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return counts / max(len(values), 1)


def psi(reference: np.ndarray, live: np.ndarray) -> float:
    """Population stability index of two rows of shares, each at least 1e-4 so that an empty cell has a logarithm."""
    a, b = np.maximum(reference, 1e-4), np.maximum(live, 1e-4)
    return float(np.sum((b - a) * np.log(b / a)))


def judge(reference: pd.DataFrame, live: pd.DataFrame, features: list[str], window: str) -> dict[str, np.ndarray]:
    """By rule, whether it alarms in each live window."""
    cut = windows(live, window)
    said = {rule: np.zeros(len(cut), dtype=bool) for rule in ("KS", "PSI", "JS", "ADWIN")}
    for feature in features:
        known = reference[feature].dropna().to_numpy()
        edges = np.unique(np.quantile(known, np.arange(0.1, 1.0, 0.1)))
        usual = shares(known, edges)
        past = [w[feature].dropna().to_numpy() for w in windows(reference, window)]
        distances = [jensenshannon(usual, shares(values, edges)) for values in past if len(values) >= FEWEST]
        limit = np.mean(distances) + 3 * np.std(distances)
        adwin = ADWIN()
        for value in known:
            adwin.update(value)
        for at, rows in enumerate(cut):
            values = rows[feature].dropna().to_numpy()
            for value in values:
                adwin.update(value)
                said["ADWIN"][at] |= adwin.drift_detected
            if len(values) < FEWEST:
                continue
            share = shares(values, edges)
            said["KS"][at] |= ks_2samp(known, values, method="asymp").pvalue < 0.05 / len(features)
            said["PSI"][at] |= psi(usual, share) > 0.2
            said["JS"][at] |= jensenshannon(usual, share) > limit
    return said


def episodes(alarms: np.ndarray, gap: int = 10) -> int:
    """Alarm windows that are further apart than `gap` are different episodes."""
    at = np.flatnonzero(alarms)
    return int(len(at) > 0) + int(np.sum(np.diff(at) > gap))
