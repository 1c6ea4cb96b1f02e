"""What `prepare` found of cases that cannot be used, kept for whoever looks at the dataset between runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tasks.conversion import CaseToConvert, to_convert
from tasks.dicom.case import Assembly
from tasks.ledger.files import read_json, write_json
from tasks.ledger.paths import DatasetPaths
from tasks.settings.dataset import DatasetSettings, RoiPatterns


@dataclass(frozen=True)
class Outcome:
    """Why one case was set aside, of exactly these files under exactly these choices."""

    label_key: str | None
    state: str
    reason: str | None
    detail: str


def remember_outcomes(paths: DatasetPaths, assembly: Assembly, jobs: Mapping[str, CaseToConvert]) -> None:
    """Note which of the cases that were to be converted came to nothing, and why."""
    found = {
        case.case_id: Outcome(jobs[case.case_id].label_key, case.state, case.reason, case.detail)
        for case in assembly.images
        if case.case_id in jobs and case.state != "done"
    }
    content = {case_id: asdict(outcome) for case_id, outcome in sorted(found.items())}
    write_json(paths.outcomes, {"version": 1, "cases": content})


def settle_as_remembered(
    paths: DatasetPaths, assembly: Assembly, settings: DatasetSettings, rois: RoiPatterns
) -> None:
    """Settle the cases that the last ``prepare`` set aside; one whose files or choices changed is open."""
    if not paths.outcomes.is_file():
        return
    noted = {case_id: Outcome(**row) for case_id, row in read_json(paths.outcomes)["cases"].items()}
    for case in assembly.images:
        outcome = noted.get(case.case_id)
        if outcome is None or case.state != "pending":
            continue
        if to_convert(case, settings, rois).label_key == outcome.label_key:
            case.settle(outcome.state, outcome.reason, outcome.detail)
