"""Whether a candidate may replace the model in use: not worse than it, structure by structure.

Both are scored on the same cases. The mean difference of a structure is resampled over patients, since
scans of one patient are no independent witnesses (paired percentile bootstrap; Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13), and its lower bound must lie above minus the margin that the
user allows (non-inferiority; ICH E9, 3.3.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    absent: frozenset[str] = frozenset()
    """The structures of which the label knows that they are not there: a Dice of 0 is a false alarm then."""


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
    false_alarms, false_alarms_before
        In how many cases, of those in which nothing is, the candidate alone finds something, and the other
        model alone. They are judged apart: a Dice of 0 beside one of 1 would outweigh, or hide, every change
        in the cases that have the structure.
    empty
        How many cases those are.
    alarm_bound, false_alarm_margin
        The lower bound of the share of these cases in which the candidate is silent and the other model not,
        less that of the reverse, and what was asked for; None without alarms, and on older records.
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
    false_alarms: int = 0
    false_alarms_before: int = 0
    empty: int = 0
    alarm_bound: float | None = None
    false_alarm_margin: float | None = None

    @property
    def quiet(self) -> bool:
        """Whether its false alarms are no reason against the candidate."""
        return self.alarm_bound is None or self.alarm_bound > -(self.false_alarm_margin or 0.0)


def judge(
    cases: Sequence[ScoredCase],
    structures: Sequence[str],
    *,
    margin: float,
    confidence: float,
    false_alarm_margin: float,
) -> list[Verdict]:
    """One verdict for each structure.

    Parameters
    ----------
    margin
        How much mean Dice a candidate may lose, such as 0.02.
    confidence
        Of the one-sided bound, such as 0.95.
    false_alarm_margin
        Of the cases without a structure, the share in which a candidate may find it and the other model not.
    """
    limits = (margin, confidence, false_alarm_margin)
    return [_verdict(cases, structure, *limits) for structure in structures]


def _verdict(
    cases: Sequence[ScoredCase], structure: str, margin: float, confidence: float, false_alarm_margin: float
) -> Verdict:
    found = [
        (case.patient, case.candidate.get(structure), case.current.get(structure), structure in case.absent)
        for case in cases
    ]
    # Where nothing is, two models that both find something agree in nothing: it is no pair of Dice.
    pairs = [(p, a, b) for p, a, b, absent in found if not absent and a is not None and b is not None]
    # Only where nothing is, and a model finds nothing, has it no Dice; have both none it may be unknown.
    silence = [
        (patient, float(b is not None) - float(a is not None))
        for patient, a, b, absent in found
        if absent or (a is None) != (b is None)
    ]
    alarms = [change for _, change in silence if change]
    verdict = Verdict(
        structure,
        len(pairs),
        len({patient for patient, _, _ in pairs}),
        *(None, None, None, None),
        non_inferior=False,
        margin=margin,
        confidence=confidence,
        false_alarms=alarms.count(-1.0),
        false_alarms_before=alarms.count(1.0),
        empty=len(silence),
        alarm_bound=lower_bound(silence, confidence) if alarms else None,
        false_alarm_margin=false_alarm_margin,
    )
    if not pairs:
        return replace(verdict, non_inferior=verdict.quiet)
    changes = [(patient, candidate - current) for patient, candidate, current in pairs]
    bound = lower_bound(changes, confidence)
    return replace(
        verdict,
        candidate=float(np.mean([candidate for _, candidate, _ in pairs])),
        current=float(np.mean([current for _, _, current in pairs])),
        difference=float(np.mean([change for _, change in changes])),
        lower_bound=bound,
        non_inferior=verdict.quiet and bound > -margin,
    )


def lower_bound(changes: Sequence[tuple[str, float]], confidence: float) -> float:
    """Of the mean over cases, of pairs of patient and change; whole patients are drawn with replacement."""
    by_patient: dict[str, list[float]] = defaultdict(list)
    for patient, change in changes:
        by_patient[patient].append(change)
    return float(np.quantile(resampled_means(list(by_patient.values())), 1 - confidence))
