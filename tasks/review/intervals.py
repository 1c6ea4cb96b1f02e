"""How sure a mean is: whole patients drawn again and again, since scans of one are no independent witnesses.

Percentile bootstrap; Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 20_240_601
"""Fixed, so that everybody who computes it again gets the same."""


def resampled_means(by_patient: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The mean over cases, of so many draws of patients with replacement."""
    sums = np.array([sum(values) for values in by_patient])
    counts = np.array([len(values) for values in by_patient])
    drawn = np.random.default_rng(SEED).integers(0, len(sums), (RESAMPLES, len(sums)))
    return np.asarray(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))


def interval(by_patient: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Two-sided 95 %, of the mean over cases; ``by_patient`` holds at least one value."""
    low, high = np.quantile(resampled_means(by_patient), [0.025, 0.975])
    return float(low), float(high)
