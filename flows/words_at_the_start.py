"""What the commands say that come before the first run: `init` and `doctor`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN_NAMES = 10
LEAST_PATIENTS = 5
"""Two in each of two folds, and one in the test set, which has a fifth."""


def init_in_words(report: dict[str, Any]) -> str:
    """What `iterseg init` wrote, what its patterns match, and what comes next."""
    rows, dataset = report["structures"], report["dataset"]
    of = rows[0]["of"] if rows else 0
    lines = [of_proposals(rows, of)] if of else []
    for row in rows if of else []:
        name, lacking = row["structure"], of - row["found_in"]
        if row["several_in"] and not report["merge"]:
            lines.append(
                f"  {name}: {row['several_in']} segmentations have several of its ROIs and will be rejected; "
                "narrow the pattern, or set `several_rois: merge`"
            )
        if lacking and report["absences"].get(name, "error") == "error":
            lines.append(
                f"  {name}: {lacking} segmentations lack it and will be rejected, unless "
                "`missing_structures` says what that means"
            )
    lines += _left_out(report["left_out"])
    lines.append(f"learns on {report['learns_on']}, in {report['folds']} folds, which stay for ever")
    if len(rows) > 1:
        lines.append("structures that overlap are an error, unless `mask_strategy` is priority or regions")
    lines += _too_little(report)
    lines += [f"wrote {path}" for path in report["written"]]
    delivery = shlex.quote(report["delivery"] or "/path/to/dicom")
    return "\n".join(
        [*lines, f"next: iterseg ingest {dataset} --from {delivery}", f"      iterseg run {dataset}"]
    )


def _left_out(names: Mapping[str, int]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(f"{name} ({count})" for name, count in list(names.items())[:SHOWN_NAMES])
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return [f"  not learned: {shown}{more}"]


def _too_little(report: Mapping[str, Any]) -> list[str]:
    """What cannot work yet, of what was looked at."""
    if report["images"] is None:
        return []
    kind, patients = report["learns_on"], report["annotated_patients"]
    if not report["images"]:
        return [f"! the folder has no {kind} image"]
    if patients < LEAST_PATIENTS:
        return [
            f"! {patients} patients are annotated; two folds of two patients each and the test set need "
            f"{LEAST_PATIENTS}: annotate more before `iterseg run`"
        ]
    return []


def of_proposals(rows: Sequence[Mapping[str, Any]], of: int, *, numbered: bool = False) -> str:
    """Structures with what their patterns match among so many segmentations."""
    lines = [f"structures in {of} segmentations:"]
    for number, row in enumerate(rows, start=1):
        mark = f"{number:>3}  " if numbered else "  "
        names = list(row["matches"].items())
        matched = ", ".join(f"{name} ({count})" for name, count in names[:SHOWN_NAMES]) or "nothing"
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        lines.append(
            f"{mark}{row['structure']}: {row['pattern']!r} is in {row['found_in']}, as {matched}{more}"
        )
    return "\n".join(lines)


def verdict_in_words(verdict: Mapping[str, Any]) -> str:
    """What `iterseg doctor` found, and how to mend it."""
    line = f"{'ok   ' if verdict['good'] else 'WRONG'} {verdict['what']}: {verdict['said']}"
    return f"{line}\n      → {verdict['mend']}" if verdict["mend"] else line
