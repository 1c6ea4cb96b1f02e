"""Whether a candidate may replace the model in use: not worse than it, structure by structure.

Both are scored on the same cases. The mean difference of a structure is resampled over patients, since
scans of one patient are no independent witnesses (paired percentile bootstrap; Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13), and its lower bound must lie above minus the margin that the
user allows (non-inferiority; ICH E9, 3.3.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.review.intervals import resampled_means

Scores = Mapping[str, float | None]
"""Structure → Dice; None where neither label nor prediction has it, or where nothing is known."""


@dataclass(frozen=True)
class ScoredCase:
    """A case under both models."""

    patient: str
    candidate: Scores
    current: Scores


@dataclass(frozen=True)
class Verdict:
    """What the comparison says of one structure.

    Attributes
    ----------
    cases, patients
        How many were compared; without any the structure is no reason for or against.
    candidate, current
        Mean Dice on these cases.
    difference
        Their difference, candidate minus current.
    lower_bound
        Of the difference, at the one-sided confidence asked for.
    margin, confidence
        What was asked for; None on older records.
    basis
        On what, where it is not what the others were compared on.
    """

    structure: str
    cases: int
    patients: int
    candidate: float | None
    current: float | None
    difference: float | None
    lower_bound: float | None
    non_inferior: bool
    margin: float | None = None
    confidence: float | None = None
    basis: str = ""


def judge(
    cases: Sequence[ScoredCase], structures: Sequence[str], *, margin: float, confidence: float
) -> list[Verdict]:
    """One verdict for each structure.

    Parameters
    ----------
    margin
        How much mean Dice a candidate may lose, such as 0.02.
    confidence
        Of the one-sided bound, such as 0.95.
    """
    return [_verdict(cases, structure, margin, confidence) for structure in structures]


def _verdict(cases: Sequence[ScoredCase], structure: str, margin: float, confidence: float) -> Verdict:
    pairs = [
        (case.patient, *pair)
        for case in cases
        if (pair := _pair(case.candidate.get(structure), case.current.get(structure))) is not None
    ]
    if not pairs:
        return Verdict(structure, 0, 0, None, None, None, None, True, margin, confidence)
    by_patient: dict[str, list[float]] = defaultdict(list)
    for patient, candidate, current in pairs:
        by_patient[patient].append(candidate - current)
    difference = float(np.mean([candidate - current for _, candidate, current in pairs]))
    bound = _lower_bound(list(by_patient.values()), confidence)
    return Verdict(
        structure,
        len(pairs),
        len(by_patient),
        float(np.mean([candidate for _, candidate, _ in pairs])),
        float(np.mean([current for _, _, current in pairs])),
        difference,
        bound,
        non_inferior=bound > -margin,
        margin=margin,
        confidence=confidence,
    )


def _pair(candidate: float | None, current: float | None) -> tuple[float, float] | None:
    """Where one model rightly finds nothing and the other does find something, the first is perfect."""
    if candidate is None and current is None:
        return None
    return (1.0 if candidate is None else candidate), (1.0 if current is None else current)


def _lower_bound(differences: Sequence[Sequence[float]], confidence: float) -> float:
    """The lower bound of the mean over cases, whole patients drawn with replacement."""
    return float(np.quantile(resampled_means(differences), 1 - confidence))
