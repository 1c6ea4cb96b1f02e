"""A patient's names are found however they are written, and other words are none."""

from __future__ import annotations

import errno
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_factory import (
    Series,
    edit,
    write_rois,
    write_series,
)
from planted import MASK, PATIENT, SHAPE, files_of, without

from tasks.dicom.names import without_identity
from tasks.errors import CaseRejected
from tasks.ledger.pseudonyms import Pseudonyms


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


def called(file: Path, patient: str, roi: str) -> Path:
    """An RTSTRUCT in Unicode, with the name of a patient and of a ROI."""

    def change(ds: Any) -> None:
        ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", patient
        ds.StructureSetROISequence[0].ROIName = roi

    return edit(file, change)


@pytest.mark.parametrize("patient", ["Yamada^Tarou=山田^太郎=やまだ^たろう", "山田^太郎", "김^하늘=金^하늘"])
@pytest.mark.parametrize("name", ["GTV_山田太郎", "GTV山田", "太郎の腫瘍", "やまだ", "하늘", "腫瘍"])
def test_a_name_in_ideographs_is_found_within_what_is_typed(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms, patient: str, name: str
) -> None:
    """Two of them are a name, and no space stands before or after."""
    quoted = any(part in name for part in re.split("[=^]", patient) if len(part) > 1)
    file = called(files_of(tmp_path, series)["RTSTRUCT"], patient, name)
    with pytest.raises(CaseRejected, match="identity-left") if quoted else nullcontext():
        without(file, pseudonyms)


def test_each_way_in_which_a_name_is_written_is_a_name(
    tmp_path: Path, series: Series, pseudonyms: Pseudonyms
) -> None:
    """Of one ideograph each, family and given name are found beside each other only."""
    file = called(files_of(tmp_path, series)["RTSTRUCT"], "Kim^A=金^一", "GTV金一")
    with pytest.raises(CaseRejected, match="identity-left"):
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
        *[("NOEL^Eva", name) for name in ("Noël", "NOEL", "noe\u0308l")],
        *[("Noël^Eva", name) for name in ("Noel", "NOËL")],
        ("Gaëlle^Eva", "gtv gaelle"),
        ("Raphael^Eva", "GTV Raphaël"),
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
