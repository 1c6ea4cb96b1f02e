"""med-imagetools' own converter, for who must have what the original scripts gave.

``nnUNetPipeline`` runs on one case at a time, in a program of its own: it renames cases when others
are added, answers success when all failed, and one bad file ends its whole run. What it does to masks
is in docs/decisions/4-own-masks.md; the test in ``tests/tasks/dicom/test_imgtools_converter.py`` measures it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk

from tasks.dicom.convert import LabelRules
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, ExternalToolError
from tasks.processes.program import Message, run_program, serve, tell

REVISION = 2
"""Masks of the first were held against nothing."""
ALIKE_DICE = 0.5
"""Its masks of the sarcoma CTs of the tests have 0.92 to 0.94; one of a ROI of few voxels has less."""
STRATEGY_NAMES = {"priority": "sparse_mask", "regions": "region_mask"}


@lru_cache(maxsize=1)
def imgtools_version() -> str:
    """The installed version, and that of what is made of its masks here; another may give other voxels."""
    return f"{version('med-imagetools')}-{REVISION}"


def convert_with_imgtools(
    image_files: Sequence[Path], segmentation: Path, rules: LabelRules, image: Path, label: Path
) -> None:
    """Convert one case with ``nnUNetPipeline``.

    Parameters
    ----------
    image_files, segmentation
        DICOM.
    rules
        ``patterns`` and ``strategy`` are used; several ROIs of a structure are always merged.
    image, label
        The NIfTI files to write; their folders exist.

    Raises
    ------
    CaseRejected
        ``IMGTOOLS_FAILED`` where it makes no image and label of one size.
    """
    with tempfile.TemporaryDirectory(prefix="iterseg-imgtools-") as name:
        root = Path(name)
        (root / "output").mkdir()
        for number, file in enumerate(image_files):
            _copy(file, root / "input" / "image" / f"{number:05}.dcm")
        # It loads an RTSTRUCT by its folder, and refuses one with anything else in it.
        _copy(segmentation, root / "input" / "segmentation" / "0.dcm")
        job = {
            "input": str(root / "input"),
            "output": str(root / "output"),
            "patterns": {key: list(value) for key, value in rules.patterns.items()},
            "strategy": STRATEGY_NAMES[rules.strategy],
        }
        complaint = _run(job, root / "log")
        images, labels = (
            list(root.glob(f"output/nnUNet_raw/*/{d}/*.nii.gz")) for d in ("imagesTr", "labelsTr")
        )
        if len(images) != 1 or len(labels) != 1:
            raise CaseRejected(Reason.IMGTOOLS_FAILED, f"it made no label map: {complaint}")
        if _size(images[0]) != _size(labels[0]):
            raise CaseRejected(Reason.IMGTOOLS_FAILED, "its image and its label map differ in size")
        shutil.copyfile(images[0], image)
        shutil.copyfile(labels[0], label)


def require_alike(label: Path, own: sitk.Image, values: Mapping[str, Sequence[int]]) -> None:
    """Hold its label map against the one that is made here: coarse outlines pass, another organ does not.

    Parameters
    ----------
    label
        The NIfTI file that it wrote.
    own
        The label map of the same case by :func:`tasks.dicom.convert.label_map`.
    values
        Structure → the integers that stand for it.

    Raises
    ------
    CaseRejected
        ``IMGTOOLS_FAILED`` where the Dice of a structure is below :data:`ALIKE_DICE`.
    """
    theirs = sitk.ReadImage(str(label))
    on_its_grid = sitk.Resample(own, theirs, interpolator=sitk.sitkNearestNeighbor)
    ours, found = sitk.GetArrayFromImage(on_its_grid), sitk.GetArrayFromImage(theirs)
    for structure, numbers in values.items():
        a, b = np.isin(ours, numbers), np.isin(found, numbers)
        both, either = np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b)
        if 2 * both < ALIKE_DICE * either:
            detail = f"its mask of {structure!r} has a Dice of {2 * both / either:.2f} with what was drawn"
            raise CaseRejected(Reason.IMGTOOLS_FAILED, detail)


def _size(file: Path) -> tuple[int, ...]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    return tuple(reader.GetSize())


def _copy(source: Path, target: Path) -> None:
    """Without the patient: med-imagetools makes paths of the PatientID, and writes it into its files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.dcmread(source, force=True)
    dataset.PatientID = dataset.PatientName = "case"
    if "ROIContourSequence" in dataset:  # it pairs ROIs with contours by their places, not by their numbers
        place = {item.ROINumber: n for n, item in enumerate(dataset.StructureSetROISequence)}
        contours = sorted(dataset.ROIContourSequence, key=lambda item: place[item.ReferencedROINumber])
        dataset.ROIContourSequence = pydicom.Sequence(contours)
    dataset.save_as(target)


def _run(job: dict[str, Any], log: Path) -> str:
    """Run this module as a program; what it says of a failure, without names and paths."""
    complaints = ["nothing"]

    def listen(message: Message) -> None:
        complaints.extend([message["complaint"]] if "complaint" in message else [])

    try:
        run_program(__name__, job, log, on_message=listen)
    except ExternalToolError as error:
        return f"it ended with {error.returncode}"
    return complaints[-1]


def _work(job: dict[str, Any]) -> None:
    from imgtools.io.nnunet_output import MaskSavingStrategy
    from imgtools.nnunet_pipeline import nnUNetPipeline

    kinds = {_modality(path) for path in Path(job["input"]).rglob("*.dcm")}
    try:
        pipeline = nnUNetPipeline(
            input_directory=job["input"],
            output_directory=job["output"],
            modalities=sorted(kinds),
            roi_match_map=job["patterns"],
            mask_saving_strategy=MaskSavingStrategy(job["strategy"]),
            update_crawl=True,
            n_jobs=1,
        )
        failures = pipeline.run()["failure"]
    except Exception as error:  # whatever it raises is the answer
        tell(complaint=type(error).__name__)
        return
    for failure in failures:
        tell(complaint=str(failure.error_type))


def _modality(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).Modality)


if __name__ == "__main__":
    serve(_work)
