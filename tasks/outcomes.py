"""What `prepare` and `predict` found of cases that cannot be used, kept for who looks between the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.conversion import CaseToConvert, conversions
from tasks.dicom.case import Assembly, Case, CaseState
from tasks.dicom.reasons import Reason
from tasks.ledger.files import read_json, write_json
from tasks.ledger.paths import DatasetPaths
from tasks.settings.dataset import DatasetSettings, RoiPatterns

UNPREDICTABLE = "cannot be predicted: "


@dataclass(frozen=True)
class Outcome:
    """Why one case was set aside, of exactly these files under exactly these choices."""

    label_key: str | None
    state: CaseState
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
    write_json(paths.outcomes, {**_noted(paths), "cases": content})


def remember_unpredictable(
    paths: DatasetPaths, jobs: Sequence[CaseToConvert], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Note which of all images that were to be predicted could not be, and why."""
    rejected = {row["case_id"]: row for row in rows if row["state"] == "rejected"}
    content = {
        job.case_id: {
            "image_key": job.image_key,
            "why": ": ".join(filter(None, (str(rejected[job.case_id][key]) for key in ("reason", "detail")))),
        }
        for job in jobs
        if job.case_id in rejected
    }
    write_json(paths.outcomes, {**_noted(paths), "images": content})


def _noted(paths: DatasetPaths) -> dict[str, Any]:
    # Files that earlier versions wrote have no images.
    known = read_json(paths.outcomes) if paths.outcomes.is_file() else {}
    return {"version": 1, "cases": {}, "images": {}, **known}


def settle_as_remembered(
    paths: DatasetPaths, assembly: Assembly, settings: DatasetSettings, rois: RoiPatterns
) -> None:
    """Settle the cases that the last ``prepare`` set aside; one whose files or choices changed is open.

    An image that the last ``predict`` could not use still waits for a label: its detail says why.
    """
    content = _noted(paths)
    noted = {case_id: Outcome(**row) for case_id, row in content["cases"].items()}
    to_convert = conversions(settings, rois)
    for case in assembly.images:
        outcome, image = noted.get(case.case_id), content["images"].get(case.case_id)
        of = to_convert(case) if outcome is not None or image is not None else None
        if outcome and of and case.state == "pending" and of.label_key == outcome.label_key:
            case.settle(outcome.state, outcome.reason, outcome.detail)
        if image and of and case.reason == Reason.UNLABELLED and of.image_key == image["image_key"]:
            case.detail = f"{UNPREDICTABLE}{image['why']}"


def is_unpredictable(case: Case) -> bool:
    """Whether nobody has segmented an image and it cannot be predicted, as its detail then says."""
    return case.reason == Reason.UNLABELLED and case.detail.startswith(UNPREDICTABLE)
