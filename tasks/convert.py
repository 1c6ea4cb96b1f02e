"""Convert: single cases from DICOM into the store, as prepare and predict need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from prefect import task

from tasks.cluster.placement import cores, this_worker
from tasks.cluster.retries import RETRIED
from tasks.conversion import OWN_CONVERTER, CaseToConvert, label_rules
from tasks.dicom.convert import label_map
from tasks.dicom.image import SeriesVolume, read_series
from tasks.dicom.imgtools_converter import convert_with_imgtools, imgtools_version, require_alike
from tasks.dicom.names import without_identity
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected
from tasks.labels import Labels, count_voxels
from tasks.ledger.files import sha256_of_file, whole_file, write_json
from tasks.ledger.images import note_fingerprint, ready_for_threads, write_image
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store, image_key
from tasks.settings.dataset import DatasetSettings, RoiPatterns
from tasks.shown.artifacts import log_broken


@task(task_run_name="convert-{chunk}", **RETRIED)
def convert_cases(
    dataset_id: str,
    chunk: int,
    cases: Sequence[CaseToConvert],
    settings: DatasetSettings,
    rois: RoiPatterns,
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Convert a chunk of cases into the store; ``threads``: as many at a time in a worker.

    Returns
    -------
    For each case ``case_id``, ``state`` (``done`` or ``rejected``), ``reason`` and ``detail``. A case
    that fails in whatever way is rejected with a code, and the others go on.
    """
    store = Store(DatasetPaths.of(dataset_id).store)
    ready_for_threads()
    # The flow's own process, where there is little to do, has what the machine has.
    with ThreadPoolExecutor(cores() if this_worker() is None else threads) as pool:
        return list(pool.map(lambda case: _fate(case, store, settings, rois), cases))


def _fate(case: CaseToConvert, store: Store, settings: DatasetSettings, rois: RoiPatterns) -> dict[str, Any]:
    outcome: dict[str, Any] = {"case_id": case.case_id, "state": "done", "reason": None, "detail": ""}
    try:
        convert_case(case, store, settings, rois)
    except CaseRejected as error:
        outcome.update(state="rejected", reason=error.reason, detail=error.detail)
    except OSError:
        raise  # the disk, not the case
    except Exception as error:  # a case that breaks the converter must not stop the others
        kind = log_broken(case.case_id, "the converter", error)
        outcome.update(state="rejected", reason=Reason.UNEXPECTED.value, detail=kind)
    return outcome


def convert_case(case: CaseToConvert, store: Store, settings: DatasetSettings, rois: RoiPatterns) -> None:
    """Convert the image and the segmentation of one case, or nothing where the store has both.

    Raises
    ------
    CaseRejected
        With the code of what is wrong with image or segmentation.
    """
    with told_without_names(case):
        _convert_case(case, store, settings, rois)


def _convert_case(case: CaseToConvert, store: Store, settings: DatasetSettings, rois: RoiPatterns) -> None:
    assert case.segmentation and case.segmentation_kind and case.label_key
    image, label = store.image(case.case_id, case.image_key), store.label(case.case_id, case.label_key)
    if label.is_file() and image.is_file():
        return
    if sha256_of_file(Path(case.segmentation)) != case.segmentation_sha256:
        raise CaseRejected(Reason.CHANGED, f"the {case.segmentation_kind} is not what was ingested")
    if settings.converter == "imgtools":
        files = _unchanged(case, f"imgtools-{imgtools_version()}")
        rules = label_rules(settings, rois)
        own = label_map(read_series(files), Path(case.segmentation), case.segmentation_kind, rules)
        with whole_file(image) as image_file, whole_file(label) as label_file:
            convert_with_imgtools(files, Path(case.segmentation), rules, image_file, label_file)
            require_alike(label_file, own, Labels(rois.structures, settings.mask_strategy).values)
            _count_voxels(sitk.ReadImage(str(label_file)), case, store)
        return
    volume = _read(case)
    rules = label_rules(settings, rois)
    labels = label_map(volume, Path(case.segmentation), case.segmentation_kind, rules)
    _count_voxels(labels, case, store)
    write_image(labels, label)
    _store_image(volume, case, store)


def convert_image(case: CaseToConvert, store: Store) -> None:
    """Convert the image of one case, or nothing where the store has it; raises as above."""
    if not store.image(case.case_id, case.image_key).is_file():
        with told_without_names(case):
            _store_image(_read(case), case, store)


@contextmanager
def told_without_names(case: CaseToConvert) -> Iterator[None]:
    """What goes wrong, told without what may be a patient's: names of ROIs, paths of files.

    A file of the case that is gone or cannot be read is the case's own trouble; a disk that is full is
    everybody's.
    """
    own = {*case.files, case.segmentation}
    try:
        yield
    except CaseRejected as error:
        files = [Path(file) for file in (case.segmentation, case.files[0]) if file]
        raise CaseRejected(Reason(error.reason), without_identity(error.detail, files)) from None
    except OSError as error:
        if str(error.filename) in own:
            detail = f"a file of the snapshot cannot be read: {error.strerror}"
            raise CaseRejected(Reason.CHANGED, detail) from None
        raise OSError(error.errno, error.strerror) from None


def _unchanged(case: CaseToConvert, converter: str) -> list[Path]:
    """The files of an image whose content is still what its key says."""
    files = [Path(file) for file in case.files]
    if image_key([sha256_of_file(file) for file in files], converter) != case.image_key:
        raise CaseRejected(Reason.CHANGED, "the image's files are not what was ingested")
    return files


def _read(case: CaseToConvert) -> SeriesVolume:
    return read_series(_unchanged(case, OWN_CONVERTER))


def _store_image(volume: SeriesVolume, case: CaseToConvert, store: Store) -> None:
    target = store.image(case.case_id, case.image_key)
    if not target.is_file():
        write_image(volume.image, target)
        note_fingerprint(volume.image, target)


def _count_voxels(labels: sitk.Image, case: CaseToConvert, store: Store) -> None:
    """Beside a label map: which integers it holds, so that nobody need read it to know."""
    counts = count_voxels(sitk.GetArrayViewFromImage(labels))
    write_json(store.voxel_counts(case.case_id, case.label_key or ""), counts)
