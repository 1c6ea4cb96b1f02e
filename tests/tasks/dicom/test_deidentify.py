"""Nothing of a patient is left in a file, and everything that a label is made of is."""

from __future__ import annotations

import errno
import io
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import yaml
from dicom_factory import (
    Series,
    ball,
    edit,
    write_multi_frame,
    write_rois,
    write_segments,
    write_series,
)
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from tasks.dicom.convert import LabelRules, label_map
from tasks.dicom.deidentify import Deidentification, deidentify, without_identity
from tasks.dicom.headers import Header, header_of, read_header
from tasks.dicom.image import read_series
from tasks.errors import CaseRejected, ConfigError
from tasks.ledger.pseudonyms import Pseudonyms

SHAPE = (6, 64, 72)
MASK = ball(SHAPE, (3, 20, 20), 6)
RECIPE = yaml.safe_load((Path(__file__).parents[3] / "config" / "deidentification.yaml").read_text())
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


@pytest.fixture
def pseudonyms(tmp_path: Path) -> Pseudonyms:
    return Pseudonyms(tmp_path / "patient.key", first=True)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "ct", SHAPE, change=plant)


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


@pytest.mark.parametrize(
    "name",
    [
        "GTV Xyzzyson",
        "XYZZYSON",
        f"gtv {PATIENT}",
        "GTV_Xyzzyson",
        "xyzzyson2",
        "GTVXyzzyson",
        f"{PATIENT}_1",
    ],
)
@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_a_label_that_quotes_the_patient_is_refused(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms, kind: str, name: str
) -> None:
    file = files_of(tmp_path, series)[kind]

    def rename(ds: Any) -> None:
        if kind == "SEG":
            ds.SegmentSequence[0].SegmentLabel = name
        else:
            ds.StructureSetROISequence[0].ROIName = name

    edit(file, rename)
    with pytest.raises(CaseRejected, match="identity-left: .* quotes the patient") as caught:
        without(file, pseudonyms)
    assert "xyzzy" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("patient", "name", "refused"),
    [
        *[("Li^Wei", name, True) for name in ("GTV Li Wei", "wei_li", "LiWei", "GTV-Li, Wei", "Li^Wei")],
        *[("Li^Wei", name, False) for name in ("Liver", "Weight Li", "GTV Wei", "Livewei", "Liweight")],
        ("Ng^Bich", "GTVNgBich", True),  # as long a word is none by chance
    ],
)
def test_a_whole_name_is_found_however_short_its_parts_are(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms, patient: str, name: str, refused: bool
) -> None:
    file = files_of(tmp_path, series)["RTSTRUCT"]
    edit(file, lambda ds: setattr(ds, "PatientName", patient))
    edit(file, lambda ds: setattr(ds.StructureSetROISequence[0], "ROIName", name))
    with pytest.raises(CaseRejected, match="identity-left") if refused else nullcontext():
        without(file, pseudonyms)


@pytest.mark.parametrize("name", ["GTV_Anna", "anna1", "1Anna", "GTV4711", "4711a"])
def test_a_short_name_ends_where_no_letter_or_digit_goes_on(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms, name: str
) -> None:
    file = files_of(tmp_path, series)["RTSTRUCT"]
    edit(file, lambda ds: (setattr(ds, "PatientName", "Ng^Anna"), setattr(ds, "PatientID", "4711")))
    edit(file, lambda ds: setattr(ds.StructureSetROISequence[0], "ROIName", name))
    with pytest.raises(CaseRejected, match="identity-left"):
        without(file, pseudonyms)


def test_a_short_name_inside_a_word_is_no_quotation(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms
) -> None:
    """Mr. Lung and Mrs. Heart are patients too."""
    file = files_of(tmp_path, series)["RTSTRUCT"]
    edit(file, lambda ds: setattr(ds, "PatientName", "Lung^Heart"))
    edit(file, lambda ds: setattr(ds, "BodyPartExamined", "HEART"))
    edit(file, lambda ds: setattr(ds.StructureSetROISequence[0], "ROIName", "Lungs"))
    assert without(file, pseudonyms)


def test_burned_in_names_are_refused(series: Series, pseudonyms: Pseudonyms) -> None:
    file = edit(series.files[0], lambda ds: setattr(ds, "BurnedInAnnotation", "YES"))
    with pytest.raises(CaseRejected, match="burned-in-annotation"):
        without(file, pseudonyms)


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


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("MUELLER^HANS", "GTV_Müller"),
        ("Müller^Hans", "GTV_MUELLER"),
        ("Müller^Hans", "GTV Muller"),
        ("Mu\u0308ller^Hans", "GTV_Müller"),
        ("Lefèvre^Luc", "lefevre"),
        ("Lefevre^Luc", "LEFÈVRE 2"),
        ("Großmann^Eva", "GTV GROSSMANN"),
        ("Grossmann^Eva", "GTV Großmann"),
        ("Sørensen^Ida", "GTV_Soerensen"),
        ("Sorensen^Ida", "GTV_Sørensen"),
        ("Wałęsa^Jan", "gtv walesa"),
    ],
)
def test_a_name_is_found_however_its_accents_are_written(
    tmp_path: Path, pseudonyms: Pseudonyms, name: str, quoted: str
) -> None:
    """A scanner writes capitals without dots, and a person the name as it is."""

    def change(_: int, ds: Any) -> None:
        ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", name

    series = write_series(tmp_path / "ct", SHAPE, change=change)
    file = write_rois(tmp_path / "rt", series, {"GTV": MASK})
    edit(file, lambda ds: setattr(ds.StructureSetROISequence[0], "ROIName", quoted))
    with pytest.raises(CaseRejected, match="ROIName quotes the patient"):
        without(file, pseudonyms)
    said = without_identity(f"the ROIs are '{quoted}' and 'Größe'", series.files)
    assert "[removed]" in said
    assert said.endswith("'Größe'"), said


@pytest.mark.parametrize("roi", ["GTV muller", "Bar", "GTV Oe"])
def test_another_word_is_no_name(tmp_path: Path, pseudonyms: Pseudonyms, roi: str) -> None:
    def change(_: int, ds: Any) -> None:
        ds.PatientName = "Mueller^Baer^Oehm"

    series = write_series(tmp_path / "ct", SHAPE, change=change)
    file = write_rois(tmp_path / "rt", series, {"GTV": MASK})
    edit(file, lambda ds: setattr(ds.StructureSetROISequence[0], "ROIName", roi))
    assert roi.encode() in without(file, pseudonyms)


@pytest.mark.parametrize(
    ("name", "identity", "message"),
    [
        ("Li^Bo", "042", "ROI 'Bo 042' of LI has a contour outside"),
        ("Ng^A", "7", "ROI 'a' lies off slice 7"),
    ],
)
def test_a_message_names_nobody_however_short_they_are_called(
    tmp_path: Path, name: str, identity: str, message: str
) -> None:
    def change(_: int, ds: Any) -> None:
        ds.PatientName, ds.PatientID = name, identity
        other = pydicom.Dataset()
        other.PatientID = "QX9"
        ds.OtherPatientIDsSequence = [other]

    files = write_series(tmp_path / "ct", SHAPE, change=change).files
    said = without_identity(f"{message} QX9", files)
    for word in (*name.split("^"), identity, "QX9"):
        assert not re.search(rf"\b{word}\b", said, re.IGNORECASE), said
    assert "has" in said or "lies off" in said


def test_a_message_that_cannot_be_looked_through_is_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails for a moment; who the patient is, is not known."""
    files = write_series(tmp_path / "ct", SHAPE).files

    def away(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("pydicom.dcmread", away)
    assert without_identity("ROI 'Xyzzyson' is empty", files) == (
        "it cannot be told without the patient's name now"
    )
