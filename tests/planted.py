"""A made-up identity, planted wherever a scanner or a PACS writes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import yaml
from dicom_factory import (
    Series,
    ball,
    edit,
    write_multi_frame,
    write_rois,
    write_segments,
)

from tasks.dicom.deidentify import Deidentification, deidentify
from tasks.ledger.pseudonyms import Pseudonyms

SHAPE = (6, 64, 72)


MASK = ball(SHAPE, (3, 20, 20), 6)


RECIPE = yaml.safe_load((Path(__file__).parents[1] / "config" / "deidentification.yaml").read_text())


RULES = Deidentification.of(RECIPE["keep"], RECIPE["empty"], RECIPE["replace"])


PATIENT = "XYZZY-0815"


def plant(k: int, ds: Any) -> None:
    """A made-up identity in every place that a scanner or a PACS writes to."""
    ds.PatientID, ds.PatientName, ds.OtherPatientIDs = PATIENT, "Plugh^Xyzzyson", "XYZZY-4711"
    ds.PatientBirthDate, ds.PatientAddress = "19330401", "Xyzzy Street 7"
    ds.InstitutionName, ds.StationName = "Xyzzy Hospital", "XYZZYCT1"
    ds.ReferringPhysicianName = ds.OperatorsName = ds.PerformingPhysicianName = "Xyzzydoc^Anna"
    ds.StudyDescription = ds.SeriesDescription = ds.ProtocolName = "xyzzyson thorax"
    ds.ImageComments = ds.PatientComments = "call Xyzzyson"
    ds.AccessionNumber = ds.StudyID = "XYZZY1"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20200102"
    ds.DeviceSerialNumber = "XYZZY-SERIAL"
    request = pydicom.Dataset()
    request.RequestedProcedureDescription, request.ScheduledProcedureStepID = "XYZZYSON", "XYZZY9"
    ds.RequestAttributesSequence = [request]
    block = ds.private_block(0x0029, "XYZZY PRIVATE", create=True)
    block.add_new(0x10, "LO", "Plugh^Xyzzyson")
    block.add_new(0x20, "SQ", [request])


def files_of(tmp_path: Path, series: Series) -> dict[str, Path]:
    """One planted file of every kind."""
    found = {
        "CT": series.files[0],
        "RTSTRUCT": write_rois(tmp_path / "rt", series, {"GTV": MASK}),
        "SEG": write_segments(tmp_path / "seg", series, MASK.astype(int), ["GTV"]),
        "multi-frame": write_multi_frame(tmp_path / "multi", series, "enhanced CT"),
    }
    for name in ("RTSTRUCT", "SEG", "multi-frame"):
        edit(found[name], lambda ds: plant(0, ds))
    return found


def without(file: Path, pseudonyms: Pseudonyms, **options: Any) -> bytes:
    return deidentify(file.read_bytes(), RULES, pseudonyms, **options)
