"""The models of a dataset and which of them is in use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tasks.errors import UserDataError
from tasks.labels import Labels, MaskStrategy
from tasks.ledger.files import digest_of, json_files, read_json, replace_symlink, sha256_of_file, write_json
from tasks.ledger.iteration_paths import CHECKPOINT, IterationPaths, fold_folder
from tasks.ledger.journal import Journal, now
from tasks.ledger.paths import DatasetPaths


@dataclass(frozen=True)
class ModelRecord:
    """What a model is and where it comes from.

    Attributes
    ----------
    model_id
        The iteration that made it, ``2026-11-23`` or ``2026-11-23.2``; imported: ``import-<digest>``.
    parent
        The model its folds were warmed from; None: trained from scratch, or imported.
    folder
        nnU-Net's trained model folder, relative to the home.
    structures
        In the order of the ROI file; with ``mask_strategy`` they give the labels.
    seen
        Fold → every patient (keyed hash) that its weights or their ancestors were trained on.
    validation_dice
        Fold → structure → mean Dice on the fold's own validation cases, from final checkpoints.
    cross_validation
        Structure → mean Dice over all validation cases of all folds; empty on older records.
    test_dice, test_surface_dice, test_hd95_mm
        Structure → mean of the ensemble on the test set; empty without a test set.
    compared_with, basis, verdicts
        The model that was in use when this one was judged, on what (``test set`` or ``cross-validation``,
        with what is to be known of it, or why on nothing), and for each structure what came out.
    accepted
        Whether it was found fit to be used.
    promoted
        Whether ``latest`` has ever been moved to it.
    lineage
        The number of its lineage.
    parent_digest
        :attr:`digest` of its parent, so that no ancestor can be changed unseen.
    ancestors
        Digests of all models that it came from, here or elsewhere, the oldest first.
    training_s
        Fold → seconds spent in epochs, over all attempts.
    control
        Of an iteration in which a training from scratch raced the warm start: which of them this model
        is (``warm start`` or ``control``), and what the other one scored.
    imported_from
        sha256 of the file that an imported model was read from; it was trained elsewhere.
    versions
        The libraries and the code that it was made with.
    """

    model_id: str
    parent: str | None
    folder: str
    created: str
    structures: list[str]
    seen: dict[str, list[str]]
    checkpoints: dict[str, str]
    epochs: dict[str, int]
    cases: dict[str, int]
    validation_dice: dict[str, dict[str, float | None]]
    test_dice: dict[str, float | None]
    test_cases: list[dict[str, Any]] = field(default_factory=list)
    promoted: bool = False
    mask_strategy: MaskStrategy = "label_image"
    compared_with: str | None = None
    basis: str = ""
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    accepted: bool = True
    test_surface_dice: dict[str, float | None] = field(default_factory=dict)
    test_hd95_mm: dict[str, float | None] = field(default_factory=dict)
    lineage: int = 1
    parent_digest: str | None = None
    training_s: dict[str, float] = field(default_factory=dict)
    control: dict[str, Any] | None = None
    imported_from: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    ancestors: list[str] = field(default_factory=list)
    cross_validation: dict[str, float | None] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of everything but ``promoted``, which is no property of the model.

        What has its default does not count, so that a later version may know more of a model.
        """
        defaults = asdict(ModelRecord("", None, "", "", [], {}, {}, {}, {}, {}, {}))
        optional = {
            f.name for f in fields(self) if f.default is not MISSING or f.default_factory is not MISSING
        }
        content = {k: v for k, v in asdict(self).items() if k not in optional or v != defaults[k]}
        return digest_of({key: value for key, value in content.items() if key != "promoted"})

    @property
    def labels(self) -> Labels:
        """Which integers are which structure."""
        return Labels(self.structures, self.mask_strategy)

    def iteration(self, paths: DatasetPaths) -> IterationPaths:
        """The iteration that made it: ``folder`` is <iteration>/nnUNet_results/<dataset>/<trainer>."""
        return IterationPaths((paths.home / self.folder).parents[2])

    def checkpoint(self, paths: DatasetPaths, fold: str) -> Path:
        """The weights of one of its folds."""
        return fold_folder(paths.home / self.folder, fold) / CHECKPOINT


def save_model(paths: DatasetPaths, record: ModelRecord) -> None:
    """Write the record of a model; its digest is noted, so that it cannot be changed unseen."""
    if noted_models(paths).get(record.model_id) != record.digest:
        Journal(paths.model_digests).append({"model": record.model_id, "digest": record.digest})
    write_json(paths.models / f"{record.model_id}.json", {"version": 1, **asdict(record)})


def noted_models(paths: DatasetPaths) -> dict[str, str]:
    """Model → the digest of its record."""
    return {entry["model"]: entry["digest"] for entry in Journal(paths.model_digests).entries()}


def check_record(paths: DatasetPaths, record: ModelRecord) -> None:
    """Raise :class:`UserDataError` where a record is not what was noted."""
    if noted_models(paths).get(record.model_id) != record.digest:
        raise UserDataError(
            f"the record of model {record.model_id} in {paths.models} is not what was written; restore it "
            "from the backup"
        )


def load_model(paths: DatasetPaths, model_id: str = "latest") -> ModelRecord:
    """Read the record of a model, or of the one in use.

    Raises
    ------
    UserDataError
        Where there is none.
    """
    if model_id == "latest":
        current = latest_model(paths)
        if current is None:
            raise UserDataError(
                f"{paths.dataset_id} has no model yet. Run `iterseg train {paths.dataset_id}`"
            )
        return current
    file = paths.models / f"{model_id}.json"
    if not file.is_file():
        known = ", ".join(record.model_id for record in load_models(paths)) or "none"
        raise UserDataError(f"{paths.dataset_id} has no model {model_id!r}; it has: {known}")
    return _read(file)


def load_models(paths: DatasetPaths) -> list[ModelRecord]:
    """All models, oldest first."""
    records = [_read(path) for path in json_files(paths.models)]
    return sorted(records, key=lambda record: record.created)


def latest_model(paths: DatasetPaths) -> ModelRecord | None:
    """The model that ``latest`` points at; None where no model has been promoted yet.

    Raises
    ------
    UserDataError
        Where ``latest`` is gone, is no link, or leads to no recorded model: training from scratch
        because of a lost link would throw a lineage away.
    """
    records = load_models(paths)
    if not paths.latest.is_symlink() and not any(record.promoted for record in records):
        if paths.latest.exists():
            raise UserDataError(f"{paths.latest} is no link; move it out of the way")
        return None
    target = paths.latest.resolve()
    for record in records:
        folder = (paths.home / record.folder).resolve()
        if paths.latest.is_symlink() and folder == target and folder.is_dir():
            return record
    known = ", ".join(record.folder for record in records if record.promoted) or "none"
    raise UserDataError(
        f"{paths.latest} is no link to the folder of a recorded model. Point it at the one that is "
        f"to be used: {known}"
    )


def promote(paths: DatasetPaths, record: ModelRecord, why: str) -> None:
    """Make a model the one in use, in one atomic step, after the history says so.

    Promoting the model that is in use changes nothing; but that a person puts it back is written down: what
    was accepted since is declined.
    """
    target = paths.home / record.folder
    history = load_promotions(paths)
    # A run that was killed between the two steps does both again.
    written = bool(history) and history[-1]["model"] == record.model_id
    if why == BY_ROLLBACK:
        # Said again, it is said of what was accepted since, too.
        newest = max(model.created for model in load_models(paths))
        written = written and history[-1]["why"] == BY_ROLLBACK and history[-1]["at"] >= newest
    elif paths.latest.is_symlink() and paths.latest.resolve() == target.resolve():
        return
    if not written:
        entry = {
            "at": now(),
            "model": record.model_id,
            "digest": record.digest,
            "instead_of": history[-1]["model"] if history else None,
            "why": why,
        }
        Journal(paths.promotions).append(entry)
    replace_symlink(paths.latest, target)


BY_ROLLBACK = "rollback"
"""Why a model is in use that a person has put back."""


def load_promotions(paths: DatasetPaths) -> list[dict[str, Any]]:
    """Which model was put into use when, instead of which, and why; oldest first."""
    return Journal(paths.promotions).entries()


def used_since_rollback(paths: DatasetPaths, structures: Collection[str]) -> list[ModelRecord]:
    """The models with just these structures that were in use since a person last went back to one."""
    entries = load_promotions(paths)
    last = max((n for n, entry in enumerate(entries) if entry["why"] == BY_ROLLBACK), default=0)
    used = {entry["model"] for entry in entries[last:]}
    alike = [r for r in load_models(paths) if r.model_id in used and set(r.structures) == set(structures)]
    return [record for record in alike if (paths.home / record.folder).is_dir()]


def was_rolled_back_since(paths: DatasetPaths, record: ModelRecord) -> bool:
    """Whether a person has chosen a model after this one was made: it does not take its place by itself."""
    return any(e["why"] == BY_ROLLBACK and e["at"] >= record.created for e in load_promotions(paths))


def check_weights(paths: DatasetPaths, record: ModelRecord) -> None:
    """Raise :class:`UserDataError` where a model's weights are not those on record."""
    for fold, digest in record.checkpoints.items():
        checkpoint = record.checkpoint(paths, fold)
        if not checkpoint.is_file() or sha256_of_file(checkpoint) != digest:
            raise UserDataError(
                f"fold {fold} of model {record.model_id} is not what was recorded; restore {checkpoint} "
                "from the backup. `latest` stays"
            )


def parent_in(paths: DatasetPaths, lineage: int) -> ModelRecord | None:
    """The model from which the next one of a lineage starts: the one in use, else the lineage's newest.

    None: the lineage has no model yet, and the next one is trained from scratch.
    """
    current = latest_model(paths)
    if current is not None and current.lineage == lineage:
        return current
    own = [record for record in load_models(paths) if record.lineage == lineage]
    return own[-1] if own else None


def leaked_patients(parent: ModelRecord, validation: Mapping[int, Iterable[str]]) -> dict[int, list[str]]:
    """Fold → validation patients that the parent's weights of that fold have been trained on."""
    found = {
        fold: sorted(set(patients) & set(parent.seen.get(str(fold), [])))
        for fold, patients in validation.items()
    }
    return {fold: patients for fold, patients in found.items() if patients}


def _read(path: Path) -> ModelRecord:
    content = read_json(path)
    content.pop("version")
    return ModelRecord(**content)
