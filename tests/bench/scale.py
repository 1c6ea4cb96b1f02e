"""How ledger, worklist and report grow: 10,000 cases and 100 iterations, made of metadata without voxels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from homes import new_home, side
from measure import MB, measured
from PIL import Image
from predicted_lab import DOUBT

from tasks.conversion import to_convert
from tasks.dicom.case import Case
from tasks.hand_over import recipe_of
from tasks.ledger.accounts import FileRow
from tasks.ledger.files import replace_symlink, write_json
from tasks.ledger.home import at_home
from tasks.ledger.models import ModelRecord, save_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients
from tasks.ledger.predictions import object_file, picture_file, record_file
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.refinements import Refinement, note_refinements
from tasks.ledger.snapshots import note_snapshots, seal
from tasks.settings.dataset import load_dataset_settings, load_rois
from tasks.state import state_at

SLICES = 40
SNAPSHOTS = 20
"""Deliveries; a lab that ingests every night has more, and smaller ones."""
WAYS = ("status", "worklist", "report")


def notes(work: Path, *, cases: int, iterations: int) -> Iterator[str]:
    """A line for each thing that is asked of a dataset of that size."""
    home = made_up(work / "scale", cases, iterations)
    paths = DatasetPaths(home, "bench")
    files = [path for path in paths.ledger.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / MB
    of = f"{cases:,} cases, {iterations} iterations"
    yield f"{of}, the ledger: {len(files):,} files, {size:.0f} MB."
    for way in WAYS:
        one = side(way, "of_scale", way, home=home)
        runs = [measured(one) for _ in range(3)]
        wall, peak = (float(np.median([getattr(run, f) for run in runs])) for f in ("wall_s", "peak_mb"))
        page = f", a page of {paths.report.stat().st_size / MB:.0f} MB" if way == "report" else ""
        yield f"{of}, {way}: {wall:.1f} s after imports, {peak:.0f} MB{page}."


def made_up(home: Path, cases: int, iterations: int) -> Path:
    """Six of ten cases are labelled, the others predicted; half of the labels are corrections."""
    new_home(home)
    paths = DatasetPaths(home, "bench")
    with at_home(home):
        Pseudonyms(paths.patient_key, first=True)
        for part in range(SNAPSHOTS):
            folder = paths.rawdata / f"2026-01-{part + 1:02}__bench"
            folder.mkdir(parents=True)
            numbers = range(part * cases // SNAPSHOTS, (part + 1) * cases // SNAPSHOTS)
            seal(folder, [row for number in numbers for row in _files(number)], "copied")
        note_snapshots(paths)
        settings = load_dataset_settings(paths.config, "bench")
        assembly, _ = state_at(paths, settings)
        labelled = [case for case in assembly.images if case.state == "pending"]
        patients = {case.patient for case in labelled}
        table = extend_patients(paths.patients, patients, settings.folds, 0.2)
        test = [case.case_id for case in labelled if case.patient in table.test]
        seen = {str(fold): sorted(patients - table.test) for fold in range(settings.folds)}
        for number in range(iterations):
            model = _model(paths, number, seen, test)
        replace_symlink(paths.latest, paths.home / model.folder)
        _predicted(paths, model, [case for case in assembly.images if case.state != "pending"])
        half = labelled[: len(labelled) // 2]
        note_refinements(paths.refinements, {f"2.25.{n}": _corrected(c, model) for n, c in enumerate(half)})
    return home


def _files(number: int) -> Iterator[FileRow]:
    """The slices of an image, and for six of ten an RTSTRUCT."""
    series = f"1.2.826.0.1.3680043.8.498.{number}"
    common = {"study_instance_uid": f"{series}.9", "frame_of_reference_uid": f"{series}.8"}
    common |= {"patient": f"{number:016x}"}
    for k in range(SLICES):
        header = {
            "kind": "CT",
            "sop_instance_uid": f"{series}.1.{k}",
            "series_instance_uid": series,
            **common,
        }
        yield FileRow(f"CT_{number}/{k}.dcm", "taken", None, "", f"{number:032x}{k:032x}", 500_000, header)
    if number % 10 < 6:
        header = {
            "kind": "RTSTRUCT",
            "sop_instance_uid": f"{series}.2.1",
            "series_instance_uid": f"{series}.2",
            "referenced_series": [series],
            **common,
        }
        yield FileRow(f"RT_{number}.dcm", "taken", None, "", f"{number:032x}{'f' * 32}", 9_000, header)


def _model(paths: DatasetPaths, number: int, seen: dict[str, list[str]], test: list[str]) -> ModelRecord:
    day = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number)
    model_id = str(day.date())
    scores = {"dice": {"GTV": 0.8}, "surface_dice": {"GTV": 0.9}, "hd95_mm": {"GTV": 3.0}}
    record = ModelRecord(
        model_id=model_id,
        parent=str((day - timedelta(days=1)).date()) if number else None,
        folder=f"data/procdata/bench/{model_id}__bench/model",
        created=day.isoformat(),
        structures=["GTV"],
        seen=seen,
        checkpoints=dict.fromkeys(seen, f"{number:064x}"),
        epochs=dict.fromkeys(seen, 150),
        cases={"training": len(seen["0"]), "test": len(test)},
        validation_dice={fold: {"GTV": 0.8} for fold in seen},
        test_dice={"GTV": 0.8},
        test_cases=[{"case_id": case, "image_key": case, "label_key": case, **scores} for case in test],
    )
    save_model(paths, record)
    (paths.home / record.folder).mkdir(parents=True)
    return record


def _predicted(paths: DatasetPaths, model: ModelRecord, cases: list[Case]) -> None:
    """What a prediction leaves, with one picture for all."""
    settings, rois = load_dataset_settings(paths.config, "bench"), load_rois(paths.config, "bench")
    folder, recipe = paths.predictions(model.model_id), recipe_of(model, settings)
    folder.mkdir(parents=True)
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (160, 480, 3)).astype(np.uint8)
    Image.fromarray(noise).save(stream, "WEBP", quality=70)
    picture = stream.getvalue()
    for number, case in enumerate(cases):
        job = to_convert(case, settings, rois)
        for kind in settings.prediction.outputs:
            object_file(folder, case.case_id, kind).touch()
        picture_file(folder, case.case_id).write_bytes(picture)
        record: dict[str, Any] = {
            "case_id": case.case_id,
            "image_key": job.image_key,
            "model": model.model_id,
            "recipe": recipe,
            "structures": ["GTV"],
            "volume_ml": {"GTV": 1.0},
            "doubt": {**DOUBT, "fold_dice": {"GTV": 1 - number / len(cases)}},
            "objects": {kind: {} for kind in settings.prediction.outputs},
        }
        write_json(record_file(folder, case.case_id), record)


def _corrected(case: Case, model: ModelRecord) -> Refinement:
    figures = {"dice": 0.9, "surface_dice": 0.9, "hd95_mm": 2.0, "added_path_length_mm": 100.0}
    figures |= {"edited_slices": 5, "edited_volume_ml": 1.0, "unedited": False}
    effort = {"GTV": figures}
    return Refinement(case.case_id, "edited", "tracking", "1.2", model.model_id, False, "x", effort)
