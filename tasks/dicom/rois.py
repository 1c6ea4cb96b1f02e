"""Which ROI belongs to which structure, by the rules that users of med-imagetools know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

SeveralRois = Literal["error", "merge"]
MissingStructure = Literal["error", "absent", "unlabelled"]


def match_rois(
    names: Sequence[str],
    patterns: Mapping[str, Sequence[str]],
    several: SeveralRois,
    missing: Mapping[str, MissingStructure] | None = None,
) -> dict[str, list[int]]:
    """Find the ROIs of each structure with med-imagetools' own ``ROIMatcher``.

    A pattern must match the whole name, whatever the case.

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
    matched = dict(
        _matcher({key: list(value) for key, value in patterns.items()}).match_rois(list(dict.fromkeys(names)))
    )
    found: dict[str, list[int]] = {}
    for structure in patterns:
        # A ROI that two patterns of one structure match is listed twice by the matcher.
        hits = list(dict.fromkeys(matched.get(structure, [])))
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


def _matcher(patterns: dict[str, list[str]]) -> Any:
    matcher_class, merge = _imgtools()
    return matcher_class(match_map=patterns, handling_strategy=merge, ignore_case=True)


@lru_cache(maxsize=1)
def _imgtools() -> tuple[Any, Any]:
    """Import med-imagetools late (1.7 s, 224 MB) and keep its hands off our logging.

    Its import runs ``logging.config.dictConfig``, which closes the handlers that exist.
    """
    import logging.config

    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda _: None  # type: ignore[assignment]
    try:
        from imgtools.coretypes.masktypes.roi_matching import ROIMatcher, ROIMatchStrategy
    finally:
        logging.config.dictConfig = configure
    return ROIMatcher, ROIMatchStrategy.MERGE
