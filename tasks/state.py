"""What a dataset is at a date: the ledger's snapshots, read as cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tasks.dicom.case import Assembly, Case, DicomFile
from tasks.dicom.cases import assemble, segmentations
from tasks.dicom.headers import Header
from tasks.errors import ConfigError, UserDataError
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.dated import dated_folders
from tasks.ledger.inbox import Inbox
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.refinements import load_refinements
from tasks.ledger.snapshots import Snapshot, load_snapshots, noted_snapshots
from tasks.ledger.withdrawals import load_withdrawals
from tasks.settings.dataset import DatasetSettings, dataset_file, datasets_of, roi_file


def state_at(
    paths: DatasetPaths, settings: DatasetSettings, day: date | None = None
) -> tuple[Assembly, Snapshot]:
    """The cases of a dataset at a date, and the newest snapshot that counts.

    Raises
    ------
    UserDataError
        Where there is no data, or none of that date.
    """
    require_dataset(paths)
    snapshots = load_snapshots(paths, day)
    if not snapshots:
        raise UserDataError(
            f"{paths.dataset_id} has no data{f' up to {day}' if day else ''} in {paths.rawdata}. "
            f"Run `iterseg ingest {paths.dataset_id} --from FOLDER`"
        )
    if day is not None and snapshots[-1].name.day != day:
        days = sorted({str(snapshot.name.day) for snapshot in load_snapshots(paths)})
        raise UserDataError(f"{paths.dataset_id} has no snapshot of {day}; it has {', '.join(days)}")
    assembly = assemble(
        _files(paths, snapshots),
        settings.image_modality,
        settings.segmentation_modalities,
        settings.segmentation_precedence or (),
        load_withdrawals(paths.withdrawals).hold,
        later_wins=settings.same_date == "later_wins",
        is_prediction=_predictions(paths),
    )
    return assembly, snapshots[-1]


def segmentations_of(paths: DatasetPaths, settings: DatasetSettings) -> list[tuple[Case, list[DicomFile]]]:
    """Each image of a dataset with every segmentation that was ever delivered of it."""
    return segmentations(
        _files(paths, load_snapshots(paths)),
        settings.image_modality,
        settings.segmentation_modalities,
        load_withdrawals(paths.withdrawals).hold,
    )


def _files(paths: DatasetPaths, snapshots: Sequence[Snapshot]) -> list[DicomFile]:
    sealed = {name: position for position, name in enumerate(noted_snapshots(paths))}
    files: list[DicomFile] = []
    for arrival, snapshot in enumerate(snapshots):
        folder, day = str(snapshot.folder), snapshot.name.day
        # One that is not on record yet was sealed last.
        came = sealed.get(str(snapshot.name), len(sealed) + arrival)
        files += [
            DicomFile(f"{folder}/{row.path}", row.sha256, Header.from_json(row.header), arrival, day, came)
            for row in snapshot.taken
            if row.header is not None
        ]
    return files


def _predictions(paths: DatasetPaths) -> Callable[[DicomFile], bool]:
    """Whether a segmentation is a prediction that nobody has changed or stands for."""
    noted = load_refinements(paths.refinements)
    if not noted:
        return lambda file: file.header.predicted
    pseudonyms = pseudonyms_of(paths)

    def is_prediction(file: DicomFile) -> bool:
        known = noted.get(pseudonyms.uid(file.header.sop_instance_uid))
        # Without a trace of ours it is what it says of itself: another dataset has predictions too, and they
        # overlap with ours.
        traced = known is not None and (known.declared or known.evidence not in ("", "overlap"))
        return (file.header.predicted and not traced) or (known is not None and not known.is_a_persons)

    return is_prediction


def require_known(paths: DatasetPaths) -> None:
    """As :func:`require_dataset`; one with a model from elsewhere, or with files that wait, is begun, too."""
    inbox = Inbox(paths.inbox)
    if not (load_models(paths) or inbox.all() or inbox.refused()):
        require_dataset(paths)


def require_dataset(paths: DatasetPaths) -> None:
    """Raise :class:`ConfigError` for a dataset that nobody has begun, naming those that exist."""
    if dated_folders(paths.rawdata, paths.dataset_id):
        return
    known = [one.dataset_id for one in paths.others if dated_folders(one.rawdata, one.dataset_id)]
    begun = roi_file(paths.config, paths.dataset_id).is_file()
    first = "" if begun else f"`iterseg init {paths.dataset_id} --look FOLDER`, then "
    raise ConfigError(
        f"there is no dataset {paths.dataset_id!r} in {paths.rawdata.parent}; there are: "
        f"{', '.join(known) or 'none'}. "
        f"Run {first}`iterseg ingest {paths.dataset_id} --from FOLDER`{_misnamed(paths)}"
    )


def _misnamed(paths: DatasetPaths) -> str:
    """Whether folders were filled by hand and are called otherwise; not how, which may be by a patient."""
    own = {paths.inbox, paths.set_aside, paths.deliveries}
    others = sum(folder not in own for folder in paths.rawdata.glob("*/"))
    if not others:
        return ""
    return f". A folder filled by hand is called <YYYY-MM-DD>__{paths.dataset_id}; {others} there are not"


def require_begun(paths: DatasetPaths) -> None:
    """Raise :class:`ConfigError` for a dataset without a file in ``config/`` and without data."""
    files = (roi_file(paths.config, paths.dataset_id), dataset_file(paths.config, paths.dataset_id))
    if any(file.is_file() for file in files) or dated_folders(paths.rawdata, paths.dataset_id):
        return
    raise ConfigError(
        f"nobody has begun a dataset {paths.dataset_id!r}: {files[0]} does not exist. There are: "
        f"{', '.join(datasets_of(paths.config)) or 'none'}. `iterseg init {paths.dataset_id} --look FOLDER` "
        "begins it"
    )


def rows_of_series(assembly: Assembly) -> list[dict[str, Any]]:
    """Every series of a dataset; what is labelled counts as done, until it is converted.

    Without paths: in a folder that was filled by hand they may be made from patients' names.
    """
    rows = [case_row(case) for case in [*assembly.images, *assembly.segmentations]]
    return [{**row, "state": "done" if row["state"] == "pending" else row["state"]} for row in rows]


def case_row(case: Case, image: Path | None = None, label: Path | None = None) -> dict[str, Any]:
    """A case as users see it in tables and with ``--json``."""
    return {
        "case_id": case.case_id,
        "kind": case.kind,
        "series_instance_uid": case.series_instance_uid,
        "segmentation": case.segmentation.header.sop_instance_uid if case.segmentation else None,
        "state": case.state,
        "reason": case.reason,
        "detail": case.detail,
        "image": str(image) if image else None,
        "label": str(label) if label else None,
    }


def totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many cases ended how; they add up to the number of rows."""
    return {state: sum(row["state"] == state for row in rows) for state in ("done", "rejected", "ignored")}
