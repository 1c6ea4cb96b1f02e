"""Which former models are ahead of the one in use, and in what: a candidate is held against them, too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.ledger.files import read_json
from tasks.ledger.iteration_paths import fold_folder, validation_prediction
from tasks.ledger.iterations import Iteration, load_iteration
from tasks.ledger.models import ModelRecord, used_since_rollback
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.scores import scores_on_record
from tasks.ledger.store import Store
from tasks.nnunet.fold import RESULT
from tasks.review.promotion import Scores
from tasks.review.scores import scores_of_files

Row = Mapping[str, Any]
What = tuple[str, str]
"""Structure, and ``Dice`` or ``silence``."""


def best_in_use(
    paths: DatasetPaths,
    iteration: Iteration,
    current: ModelRecord | None,
    scored: Mapping[str, Sequence[Row]],
    mirroring: bool,
    untested: Collection[str] = (),
) -> list[ModelRecord]:
    """Of the models in use since the last rollback, for each structure the one furthest above that of now.

    Case by case, where both have a Dice on record of the same image and label, predicted alike: a mean of
    another day is of another test set, and one that was easy then would be held against all that follow.
    Structure by structure: what one gains in many nights would hide what another loses. Likewise the one that
    is furthest ahead of it in false alarms. Without a test set both are compared on the cases that they were
    validated on.

    Parameters
    ----------
    scored
        Model → what it scores on the cases of today, where that is known. A former model may have scores of a
        few of them alone on record: whoever is the best by those is to be scored, and this asked again.
    mirroring
        How test cases are predicted today; where scores of both ways are known, those of this way count.
    untested
        The structures that no test case has: of these it is asked where both were validated.
    """
    if current is None:
        return []
    own = _Known(paths, iteration, current, scored, mirroring)
    best: dict[What, tuple[float, str, ModelRecord]] = {}
    for model in used_since_rollback(paths, iteration.structures):
        if model.model_id == current.model_id:
            continue
        theirs = _Known(paths, iteration, model, scored, mirroring)
        for what, mean in leads(theirs, own, untested).items():
            found = (mean, model.created, model)
            if mean > 0 and (what not in best or found[:2] > best[what][:2]):
                best[what] = found
    models = {model.model_id: model for _, _, model in best.values()}
    return [models[model_id] for model_id in sorted(models)]


@dataclass(frozen=True)
class _Known:
    """What is known of a model on the cases of today."""

    paths: DatasetPaths
    iteration: Iteration
    model: ModelRecord
    scored: Mapping[str, Sequence[Row]]
    mirroring: bool

    def rows(self) -> dict[bool | None, dict[str, Scores]]:
        """Mirroring → case → Dice of the whole model."""
        return self._scores(self.iteration.test_cases() or self.iteration.training_cases())

    def validated(self) -> Mapping[str, Scores]:
        """Case → Dice by weights that have not seen it; of one from elsewhere what it was asked for that."""
        before = validated_before(self.paths, self.model, self.iteration, None)
        return before or self._scores(self.iteration.training_cases())[self.mirroring]

    def _scores(self, cases: Sequence[Row]) -> dict[bool | None, dict[str, Scores]]:
        today, ids = {_image_and_label(case) for case in cases}, {case["case_id"] for case in cases}
        found: dict[bool | None, dict[str, Scores]] = defaultdict(dict)
        for row in scores_on_record(self.paths, self.model):
            if _image_and_label(row) in today:
                found[row.get("mirroring")][row["case_id"]] = row["dice"]
        for row in self.scored.get(self.model.model_id, ()):
            if row["case_id"] in ids:
                found[self.mirroring][row["case_id"]] = row["dice"]
        return found


def leads(theirs: _Known, own: _Known, untested: Collection[str]) -> dict[What, float]:
    """By how much another model is better than our own, in the mean of the cases of which both have a score.

    Structure and ``Dice`` → the difference; structure and ``silence`` → of the cases in which one or both
    have no Dice, since nothing is there and they see nothing, the share that it is silent in, less our own.
    """
    tested = bool(own.iteration.test_cases())
    asked = set(untested) if tested else set(own.iteration.structures)
    other, ours = theirs.rows(), own.rows()
    pairs: dict[str, tuple[Scores, Scores]] = {}
    for way in (not own.mirroring, own.mirroring):
        both = other.get(way, {}).keys() & ours.get(way, {}).keys()
        pairs |= {case_id: (other[way][case_id], ours[way][case_id]) for case_id in both}
    found = _mean_differences(pairs, set(own.iteration.structures))
    if asked:
        other_folds, our_folds = theirs.validated(), own.validated()
        in_folds = {c: (other_folds[c], our_folds[c]) for c in other_folds.keys() & our_folds.keys()}
        found |= _mean_differences(in_folds, asked)
    return found


def _mean_differences(pairs: Mapping[str, tuple[Scores, Scores]], structures: set[str]) -> dict[What, float]:
    changes: dict[What, list[float]] = defaultdict(list)
    for theirs, own in pairs.values():
        for name in structures & own.keys() & theirs.keys():
            dice, other = own[name], theirs[name]
            if dice is not None and other is not None:
                changes[name, "Dice"].append(other - dice)
            else:
                changes[name, "silence"].append(float(other is None) - float(dice is None))
    return {what: sum(found) / len(found) for what, found in changes.items()}


def _image_and_label(row: Row) -> tuple[Any, ...]:
    return row["case_id"], row.get("image_key"), row.get("label_key")


def validated_before(
    paths: DatasetPaths, current: ModelRecord, iteration: Iteration, tolerance_mm: float | None
) -> dict[str, dict[str, float | None]]:
    """Case → Dice of a former model by weights that have not seen it, against the label of today.

    Where the label has changed since, the prediction of then is scored again, or left out where
    ``tolerance_mm`` is None. An imported model was validated elsewhere, on nothing that is known here.
    """
    folder = paths.home / current.folder
    own = load_iteration(current.iteration(paths))
    if own is None:
        return {}
    store, now = Store(paths.store), {case["case_id"]: case for case in iteration.cases}
    scores: dict[str, dict[str, float | None]] = {}
    for then in own.training_cases():
        case_id, fold = then["case_id"], fold_folder(folder, then["place"])
        today = now.get(case_id)
        if today is None or today["image_key"] != then["image_key"]:
            continue
        prediction = validation_prediction(fold, case_id)
        truth = store.label(case_id, today["label_key"])
        if today["label_key"] == then["label_key"]:
            scores[case_id] = read_json(fold / RESULT)["cases"][case_id]
        elif tolerance_mm is not None and prediction.is_file() and truth.is_file():
            scores[case_id] = scores_of_files(
                truth, prediction, iteration.labels, tolerance_mm, current.labels
            )["dice"]
    return scores
