"""What a model scored after its record was written, on cases that came later or in another way to predict.

They could be computed again, by predicting; each night would, of each model that the next is judged beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.ledger.files import read_json, write_json
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths

Row = Mapping[str, Any]
KEYS = ("case_id", "image_key", "label_key", "tolerance_mm", "mirroring")
"""What a score is of: another image, label, tolerance or way to predict is another score."""


def what_is_scored(row: Row) -> tuple[Any, ...]:
    """The values of :data:`KEYS`; None for what an older row lacks."""
    return tuple(row.get(key) for key in KEYS)


def scores_on_record(paths: DatasetPaths, model: ModelRecord) -> list[Row]:
    """Every score of these weights that is known, those of the model's record first."""
    return [*model.test_cases, *_kept(paths, model)]


def keep_scores(paths: DatasetPaths, model: ModelRecord, rows: Sequence[Row]) -> None:
    """Keep those that are not on record yet."""
    known = {what_is_scored(row) for row in scores_on_record(paths, model)}
    new = [dict(row) for row in rows if what_is_scored(row) not in known]
    if new:
        content = {"version": 1, "weights": _weights(model), "scores": [*_kept(paths, model), *new]}
        write_json(_file(paths, model), content)


def _kept(paths: DatasetPaths, model: ModelRecord) -> list[Row]:
    file = _file(paths, model)
    content = read_json(file) if file.is_file() else {}
    return list(content["scores"]) if content.get("weights") == _weights(model) else []


def _weights(model: ModelRecord) -> list[str]:
    return list(model.checkpoints.values())


def _file(paths: DatasetPaths, model: ModelRecord) -> Path:
    return paths.scores / f"{model.model_id}.json"
