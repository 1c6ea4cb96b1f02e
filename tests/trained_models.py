"""Models on disk, as training leaves them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tasks.ledger.dated import DatedName
from tasks.ledger.files import sha256_of_file, write_json
from tasks.ledger.iterations import Iteration
from tasks.ledger.models import ModelRecord, save_model
from tasks.ledger.paths import DatasetPaths


def case(number: int, place: int | str, label_key: str = "same") -> dict[str, Any]:
    name = f"case{number}"
    return {
        "case_id": name,
        "patient": f"p{number}",
        "place": place,
        "image_key": "i",
        "label_key": label_key,
    }


def iteration(name: str, cases: list[dict[str, Any]]) -> Iteration:
    return Iteration(name, name, None, "CT", ["GTV"], "3d_fullres", "nnUNetPlans", "", 2, cases)


def trained(paths: DatasetPaths, day: str, cases: list[dict[str, Any]], dice: float) -> ModelRecord:
    """A model on disk, as training leaves it."""
    name = DatedName.parse(f"{day}__D", "D")
    assert name is not None
    at = paths.iteration(name)
    write_json(at.record, {"version": 1, **asdict(iteration(f"{day}__D", cases))})
    folder = at.results / "trainer"
    checkpoints = {}
    for fold in (0, 1):
        file = folder / f"fold_{fold}" / "checkpoint_final.pth"
        file.parent.mkdir(parents=True)
        file.write_text(f"weights {day} {fold}")
        checkpoints[str(fold)] = sha256_of_file(file)
        scores = {c["case_id"]: {"GTV": dice} for c in cases if c["place"] == fold}
        write_json(file.parent / "fold.json", {"cases": scores})
    record = ModelRecord(
        day,
        None,
        str(folder.relative_to(paths.home)),
        f"{day}T00:00:00",
        ["GTV"],
        {},
        checkpoints,
        {"0": 1, "1": 1},
        {"training": len(cases), "test": 0},
        {},
        {},
    )
    save_model(paths, record)
    return record
