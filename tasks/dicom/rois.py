"""Which ROI belongs to which structure, by the rules that users of med-imagetools know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected
from tasks.labels import MissingStructure, SeveralRois, matching


def match_rois(
    names: Sequence[str],
    patterns: Mapping[str, Sequence[str]],
    several: SeveralRois,
    missing: Mapping[str, MissingStructure] | None = None,
) -> dict[str, list[int]]:
    """Find the ROIs of each structure: a pattern must match the whole name, whatever the case.

    The rule is that of med-imagetools' ``ROIMatcher`` (``re.fullmatch`` with ``IGNORECASE``), whose import
    takes 1.7 s and 224 MB of each worker; a test holds both against each other.

    Parameters
    ----------
    names
        ROI names or segment labels; those that hold nothing are left out by the caller.
    patterns
        Structure → patterns.
    several
        Whether several ROIs of one structure are an error or are merged.
    missing
        Structures that may be missing; those that are not named here may not.

    Returns
    -------
    Structure → positions in ``names``; a structure that may be missing and is has none.

    Raises
    ------
    CaseRejected
        ``MISSING_ROI``, ``DUPLICATE_ROI`` or ``SEVERAL_ROIS``.
    """
    found: dict[str, list[int]] = {}
    for structure, wanted in patterns.items():
        hits = matching(list(dict.fromkeys(names)), wanted)
        if not hits and (missing or {}).get(structure, "error") == "error":
            raise CaseRejected(
                Reason.MISSING_ROI, f"nothing matches {structure!r}; the ROIs are {_listed(names)}"
            )
        for name in hits:
            if list(names).count(name) > 1:
                raise CaseRejected(Reason.DUPLICATE_ROI, f"{names.count(name)} ROIs are called {name!r}")
        if len(hits) > 1 and several == "error":
            raise CaseRejected(Reason.SEVERAL_ROIS, f"{structure!r} matches {_listed(hits)}")
        found[structure] = [list(names).index(name) for name in hits]
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
