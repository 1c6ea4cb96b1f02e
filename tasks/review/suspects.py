"""Labels that deserve a second look: networks that never saw them strongly disagree.

Faults of the first labels live for ever, since every later model learns them (TotalSegmentator#29, #317).
A case is suspect where its out-of-fold Dice lies far below that of the others: more than three scaled
median absolute deviations below the median (Leys et al., Journal of Experimental Social Psychology 49,
2013). The label may be right and the case hard; a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tasks.labels import Labels

DEVIATIONS = 3.0
MAD_OF_A_NORMAL = 1.4826
"""Scales the median absolute deviation to the standard deviation of a normal distribution."""
LEAST_GAP = 0.1
"""Of cases that all score alike a difference of less Dice is none that a reader would see."""
LEAST_CASES = 5
"""Of fewer cases nobody can say which is the odd one."""


@dataclass(frozen=True)
class Suspect:
    """A structure of a case whose label and out-of-fold prediction disagree."""

    case_id: str
    structure: str
    dice: float
    median: float
    """Of the structure over all cases."""


def suspect_labels(
    cases: Mapping[str, Mapping[str, float | None]], structures: Sequence[str]
) -> list[Suspect]:
    """The suspects among cases, worst first.

    Parameters
    ----------
    cases
        Case id → structure → Dice by weights that have not seen the case; None where it is undefined.
    """
    found = []
    for structure in structures:
        scores = {case: dice for case, row in cases.items() if (dice := row.get(structure)) is not None}
        if len(scores) < LEAST_CASES:
            continue
        values = np.array(list(scores.values()))
        median = float(np.median(values))
        spread = MAD_OF_A_NORMAL * float(np.median(np.abs(values - median)))
        limit = median - max(DEVIATIONS * spread, LEAST_GAP)
        found += [Suspect(case, structure, dice, median) for case, dice in scores.items() if dice < limit]
    return sorted(found, key=lambda suspect: (suspect.dice - suspect.median, suspect.case_id))


def slices_that_differ(label_file: Path, other_file: Path, labels: Labels, structure: str) -> list[int]:
    """The slices, from 0, on which two label maps of one grid disagree about a structure, the worst first.

    Where nobody has looked they do not.
    """
    label, other = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (label_file, other_file))
    differs = labels.mask(label, structure) != labels.mask(other, structure)
    voxels = np.count_nonzero(differs & (label != labels.ignore), axis=(1, 2))
    order = np.argsort(-voxels, kind="stable")
    return [int(k) for k in order[: np.count_nonzero(voxels)]]
