"""Nothing of a patient is left in a file, and everything that a label is made of is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_factory import (
    Series,
    edit,
    write_rois,
)
from planted import MASK, PATIENT, RECIPE, RULES, files_of, without
from predicted_lab import predicted
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from tasks.dicom.convert import LabelRules, label_map
from tasks.dicom.deidentify import Deidentification, deidentify
from tasks.dicom.headers import Header, header_of, read_header
from tasks.dicom.image import read_series
from tasks.errors import CaseRejected, ConfigError
from tasks.ledger.pseudonyms import Pseudonyms


def header(content: bytes, pseudonyms: Pseudonyms) -> Header:
    return header_of(content, ".dcm", pseudonyms.patient)


@pytest.mark.parametrize("kind", ["CT", "RTSTRUCT", "SEG", "multi-frame"])
def test_nothing_that_was_planted_is_left(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms, kind: str
) -> None:
    content = without(files_of(tmp_path, series)[kind], pseudonyms)
    for word in (b"xyzzy", b"plugh", b"19330401", b"20200102"):
        assert word not in content.lower()
    ds = pydicom.dcmread(io.BytesIO(content))
    assert str(ds.PatientID).startswith("ITERSEG-")
    assert ds.PatientID == ds.PatientName
    assert ds.PatientIdentityRemoved == "YES"
    assert not any(tag.is_private for tag in ds)


@pytest.mark.parametrize("kind", ["CT", "RTSTRUCT", "SEG", "multi-frame"])
def test_twice_is_once(tmp_path: Path, series: Series, pseudonyms: Pseudonyms, kind: str) -> None:
    """A file that comes in again, with or without its name, is a duplicate and no conflict."""
    file = files_of(tmp_path, series)[kind]
    content = without(file, pseudonyms)
    assert without(file, pseudonyms) == content
    assert deidentify(content, RULES, pseudonyms) == content


def test_the_patient_stays_the_same_stranger(series: Series, pseudonyms: Pseudonyms) -> None:
    before = read_header(series.files[0], pseudonyms.patient)
    after = header(without(series.files[0], pseudonyms), pseudonyms)
    assert after.patient == before.patient
    assert after.series_instance_uid == pseudonyms.uid(before.series_instance_uid)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless], ids=str)
def test_masks_and_voxels_are_untouched(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms, kind: str, syntax: Any
) -> None:
    if syntax:
        for file in series.files:
            edit(file, lambda ds: ds.compress(syntax, generate_instance_uid=False))
    segmentation = files_of(tmp_path, series)[kind]
    images = [tmp_path / f"out{n}" for n in range(len(series.files))]
    for source, target in zip([*series.files, segmentation], [*images, tmp_path / "label"], strict=True):
        target.write_bytes(without(source, pseudonyms))
    volume = read_series(images)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.image), series.voxels)
    labels = label_map(volume, tmp_path / "label", kind, LabelRules({"GTV": ["GTV"]}))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), MASK)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_a_segmentation_still_finds_its_image(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms, kind: str
) -> None:
    image = header(without(series.files[0], pseudonyms), pseudonyms)
    drawn = header(without(files_of(tmp_path, series)[kind], pseudonyms), pseudonyms)
    assert drawn.referenced_series == [image.series_instance_uid]
    assert drawn.frame_of_reference_uid == image.frame_of_reference_uid
    instances = {header(without(f, pseudonyms), pseudonyms).sop_instance_uid for f in series.files}
    assert set(drawn.referenced_instances) <= instances


def test_references_to_what_came_in_with_its_name_still_lead_there(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms
) -> None:
    drawn = files_of(tmp_path, series)["SEG"]
    kept = header(without(drawn, pseudonyms, known_uid=lambda uid: uid == series.uids["series"]), pseudonyms)
    assert kept.referenced_series == [series.uids["series"]]


def test_uids_of_the_standard_stay(series: Series, pseudonyms: Pseudonyms) -> None:
    before = pydicom.dcmread(series.files[0])
    after = pydicom.dcmread(io.BytesIO(without(series.files[0], pseudonyms)))
    assert after.SOPClassUID == before.SOPClassUID
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID != before.SOPInstanceUID


def test_burned_in_names_are_refused(series: Series, pseudonyms: Pseudonyms) -> None:
    file = edit(series.files[0], lambda ds: setattr(ds, "BurnedInAnnotation", "YES"))
    with pytest.raises(CaseRejected, match="burned-in-annotation"):
        without(file, pseudonyms)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("Modality", "CT"), ("Modality", "OT"), ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7")],
    ids=["both", "a CT by its class alone", "a CT by its modality alone"],
)
def test_a_capture_of_a_screen_is_refused(
    series: Series, pseudonyms: Pseudonyms, keyword: str, value: str
) -> None:
    """A scanner stores its protocol page as a CT, which says nothing of where it lies."""
    edit(series.files[0], lambda ds: delattr(ds, "ImagePositionPatient"))
    edit(series.files[0], lambda ds: setattr(ds, keyword, value))
    with pytest.raises(CaseRejected, match="burned-in-annotation: it has no position"):
        without(series.files[0], pseudonyms)


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_a_prediction_stays_one_whatever_the_recipe_keeps(
    home: Path, tmp_path: Path, pseudonyms: Pseudonyms, kind: str
) -> None:
    of_model = {"Manufacturer", "SegmentAlgorithmType", "ROIGenerationAlgorithm", "ApprovalStatus"}
    rules = Deidentification.of(sorted(set(RECIPE["keep"]) - of_model), RECIPE["empty"], RECIPE["replace"])
    file = predicted(home, tmp_path, {"GTV": MASK}).object(kind)
    kept = deidentify(file.read_bytes(), rules, pseudonyms)
    assert header(kept, pseudonyms).predicted


def test_a_wrong_keyword_in_the_recipe_is_said() -> None:
    with pytest.raises(ConfigError, match="DICOM has no attribute 'PatientNmae'"):
        Deidentification.of(["PatientNmae"], [], {})


def test_the_recipe_keeps_no_name_and_no_date() -> None:
    identifying = ("Name", "Date", "Time", "Address", "Birth", "Physician", "Institution", "Comments")
    technical = {"AlgorithmName", "ROIName", "RepetitionTime", "EchoTime", "EffectiveEchoTime"}
    technical |= {"InversionTime", "TriggerTime", "SegmentAlgorithmName", "ManufacturerModelName"}
    kept = set(RECIPE["keep"]) - technical
    assert not [keyword for keyword in kept if any(word in keyword for word in identifying)]


def test_what_a_pacs_wrote_as_unknown_is_what_the_standard_says(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms
) -> None:
    """A sequence, UIDs and a label as UN, of defined length: what is in them is looked at all the same."""
    file = write_rois(tmp_path / "rt", series, {"GTV": MASK})
    ds = pydicom.dcmread(file)
    inner = ds.ReferencedFrameOfReferenceSequence[0]
    inner.PatientID = PATIENT
    original = str(inner.FrameOfReferenceUID)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = io.BytesIO()
    pydicom.dcmwrite(content, ds, enforce_file_format=True)
    raw = pydicom.dcmread(io.BytesIO(content.getvalue()))
    for keyword in ("ReferencedFrameOfReferenceSequence", "SeriesInstanceUID"):
        tag = Tag(keyword)
        element = io.BytesIO()
        part = pydicom.Dataset()
        part[tag] = raw[tag]
        pydicom.dcmwrite(element, part, implicit_vr=False, little_endian=True)
        value = element.getvalue()[12 if keyword.endswith("Sequence") else 8 :]
        raw._dict[tag] = RawDataElement(tag, "UN", len(value), value, 0, False, True)  # as it is read
    out = io.BytesIO()
    pydicom.dcmwrite(out, raw, enforce_file_format=True)
    assert PATIENT.encode() in out.getvalue()
    clean = deidentify(out.getvalue(), RULES, pseudonyms)
    for word in (PATIENT, original, series.uids["frame"], str(ds.SeriesInstanceUID)):
        assert word.encode() not in clean
