"""What the commands say that come before the first run: `init` and `doctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN_NAMES = 10


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
    lines += [f"wrote {path}" for path in report["written"]]
    delivery = report["delivery"] or "/path/to/dicom"
    return "\n".join(
        [*lines, f"next: iterseg ingest {dataset} --from {delivery}", f"      iterseg run {dataset}"]
    )


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
