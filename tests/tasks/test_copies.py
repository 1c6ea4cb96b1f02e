"""One scan under two identities is one case; and one whose patient is out is out under any name."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tasks.conversion import CaseToConvert
from tasks.copies import cases_with, scans_of, without_copies
from tasks.dicom.case import Case, DicomFile
from tasks.dicom.headers import Header
from tasks.ledger import images as stored
from tasks.ledger.images import fingerprint, note_fingerprint, write_image
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients
from tasks.ledger.scans import note_scans
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import add_withdrawal, load_withdrawals

DAY = date(2026, 11, 26)


def converted(cases: Sequence[tuple[str, str, int, bytes]]) -> tuple[list[Case], dict[str, CaseToConvert]]:
    """Cases in the store: id, patient, arrival, and the content of the converted image."""
    store, images, jobs = Store(DatasetPaths.of("D").store), [], {}
    for case_id, patient, arrival, content in cases:
        file = store.image(case_id, "i")
        file.parent.mkdir(parents=True)
        write_image(sitk.GetImageFromArray(np.frombuffer(content, np.uint8).reshape(1, 1, -1)), file)
        header = Header("CT", f"{case_id}.1", case_id, "study", "frame", patient)
        images.append(
            Case(case_id, case_id, "CT", patient, [DicomFile(Path(), "", header, arrival)], state="done")
        )
        jobs[case_id] = CaseToConvert(case_id, [], "i")
    return images, jobs


@pytest.mark.parametrize(
    ("placed", "cases", "stay"),
    [
        ([], [("a", "p1", 0, b"same"), ("b", "p2", 1, b"same"), ("c", "p3", 0, b"else")], "ac"),
        ([], [("a", "p1", 1, b"same"), ("b", "p2", 0, b"same")], "b"),
        (["p1"], [("a", "p1", 1, b"same"), ("b", "p2", 0, b"same")], "a"),
        ([], [("a", "p1", 0, b"same"), ("b", "p1", 1, b"same")], "ab"),
        ([], [("a", "p1", 0, b"size"), ("b", "p2", 1, b"only")], "ab"),
    ],
)
def test_one_scan_under_two_identities_is_one_case(
    home: Path, placed: list[str], cases: list[tuple[str, str, int, bytes]], stay: str
) -> None:
    """One of them could be in the test set, and the other one be trained on."""
    paths = DatasetPaths.of("D")
    if placed:
        extend_patients(paths.patients, placed, 2, 0, every_fold=False)
    images, jobs = converted(cases)
    assert "".join(without_copies(paths, images, jobs)) == stay
    out = [case for case in images if case.case_id not in stay]
    assert {(case.state, case.reason) for case in out} <= {("rejected", "same-image-other-patient")}
    assert all(case.detail == f"{stay[0]} has the same voxels" for case in out)


def test_a_scan_whose_patient_is_out_is_out_under_any_name(home: Path) -> None:
    paths = DatasetPaths.of("D")
    images, jobs = converted(
        [("gone", "p1", 0, b"same"), ("twin", "p2", 1, b"same"), ("c", "p3", 0, b"else")]
    )
    add_withdrawal(paths.withdrawals, DAY, ["gone"], "p1", scans_of(Store(paths.store), ["gone"]))
    del jobs["gone"]  # what is withdrawn is not converted
    assert list(without_copies(paths, images, jobs)) == ["c"]
    assert (images[1].state, images[1].reason) == ("rejected", "same-image-withdrawn")


def test_of_several_copies_of_such_a_scan_none_stays(home: Path) -> None:
    paths = DatasetPaths.of("D")
    images, jobs = converted([(name, f"p{name}", 0, b"same") for name in "abc"])
    add_withdrawal(paths.withdrawals, DAY, ["a"], "pa", scans_of(Store(paths.store), ["a"]))
    assert without_copies(paths, images, {name: jobs[name] for name in "bc"}) == {}
    assert {case.reason for case in images[1:]} == {"same-image-withdrawn"}


def test_a_scan_is_known_whatever_compressed_it(home: Path) -> None:
    store = Store(DatasetPaths.of("D").store)
    converted([("a", "p1", 0, b"same"), ("b", "p2", 1, b"same")])
    plain = gzip.decompress(store.image("b", "i").read_bytes())
    store.image("b", "i").write_bytes(gzip.compress(plain, 9))
    assert store.image("a", "i").read_bytes() != store.image("b", "i").read_bytes()
    assert cases_with(store, scans_of(store, ["a"])) == ["a", "b"]


def test_a_scan_under_two_identities_is_known_whatever_compressed_it(home: Path) -> None:
    paths = DatasetPaths.of("D")
    images, jobs = converted([("a", "p1", 0, b"same"), ("b", "p2", 1, b"same")])
    file = Store(paths.store).image("b", "i")
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + b"", 9) + b"")
    assert file.stat().st_size != Store(paths.store).image("a", "i").stat().st_size
    assert list(without_copies(paths, images, jobs)) == ["a"]


def test_what_is_noted_as_an_image_is_written_is_what_its_file_says(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 30)
    for name in ("a", "b"):
        write_image(image, tmp_path / name / "image-i.nii.gz")
    note_fingerprint(image, tmp_path / "a" / "image-i.nii.gz")
    told = [fingerprint(tmp_path / name / "image-i.nii.gz") for name in ("a", "b")]
    assert told[0] == told[1]
    assert told[0].startswith("120:")


def test_copies_are_found_and_what_is_of_another_size_is_not_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(DatasetPaths.of("D").store)
    converted(
        [("a", "p1", 0, b"same"), ("b", "p2", 1, b"same"), ("c", "p3", 0, b"else"), ("d", "p4", 0, b"longer")]
    )
    scans = scans_of(store, ["a"])
    read: list[str] = []

    compute = stored._voxel_digest

    def digest(image: Path) -> str:
        read.append(image.parent.name)
        return compute(image)

    monkeypatch.setattr(stored, "_voxel_digest", digest)
    assert cases_with(store, scans) == ["a", "b"]
    assert cases_with(store, scans, but=["a"]) == ["b"]
    assert read == ["b", "c"], "each once, and not the longer one"
    assert cases_with(Store(home / "nothing"), scans) == []


def test_what_is_on_the_list_is_not_put_there_twice_and_a_scan_may_follow(home: Path) -> None:
    """Of a withdrawal before there were scans on it, or before the case was converted."""
    path = DatasetPaths.of("D").withdrawals
    assert add_withdrawal(path, DAY, ["a"], "p1")
    assert not add_withdrawal(path, DAY, ["a"], "p1", ["4:x"])
    once = path.read_bytes()
    assert not add_withdrawal(path, DAY, ["a"], "p1", ["4:x"])
    assert path.read_bytes() == once
    assert load_withdrawals(path).scans == {"4:x"}


@pytest.mark.parametrize("why", ["it was withdrawn by its case", "its newer label was refused"])
def test_a_scan_that_was_learned_from_as_one_patients_is_no_other_patients(home: Path, why: str) -> None:
    """Nobody else stands for its voxels now; but models know them, and the other patient may be tested."""
    paths = DatasetPaths.of("D")
    images, jobs = converted([("a", "p1", 0, b"same"), ("b", "p2", 1, b"same")])
    note_scans(paths.scans, "2026-11-26__D", {"a": ("i", fingerprint_of("a"), "p1")})
    if "withdrawn" in why:
        add_withdrawal(paths.withdrawals, DAY, ["a"])
    assert without_copies(paths, images, {"b": jobs["b"]}) == {}
    assert (images[1].reason, images[1].detail) == (
        "same-image-other-patient",
        "it was used before, as another patient's",
    )


def test_of_two_the_one_stays_that_models_know(home: Path) -> None:
    """The other one came first, without a label, and its patient is in the test set."""
    paths = DatasetPaths.of("D")
    extend_patients(paths.patients, ["p1", "p2"], 2, 0, every_fold=False)
    images, jobs = converted([("a", "p1", 0, b"same"), ("b", "p2", 1, b"same")])
    note_scans(paths.scans, "2026-11-26__D", {"b": ("i", fingerprint_of("b"), "p2")})
    assert list(without_copies(paths, images, jobs)) == ["b"]
    assert images[0].reason == "same-image-other-patient"


def test_another_scan_of_the_same_patient_is_none_of_this(home: Path) -> None:
    paths = DatasetPaths.of("D")
    images, jobs = converted([("a", "p1", 0, b"same"), ("b", "p1", 1, b"same"), ("c", "p3", 1, b"else")])
    note_scans(paths.scans, "2026-11-26__D", {"a": ("i", fingerprint_of("a"), "p1")})
    assert list(without_copies(paths, images, jobs)) == ["a", "b", "c"]


def fingerprint_of(case_id: str) -> str:
    return fingerprint(Store(DatasetPaths.of("D").store).image(case_id, "i"))
