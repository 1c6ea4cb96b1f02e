"""Every series is accounted for, and a segmentation belongs to one image for a reason."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tasks.dicom.case import Case, DicomFile, case_id_of
from tasks.dicom.cases import assemble
from tasks.dicom.headers import Header, Kind
from tasks.dicom.reasons import Reason


def image(series: str, patient: str = "p", kind: Kind = "CT", arrival: int = 0) -> list[DicomFile]:
    return [
        DicomFile(
            Path(f"{series}.{k}"),
            f"sha-{series}-{k}",
            Header(kind, f"{series}.{k}", series, "study", f"frame-{series}", patient),
            arrival,
        )
        for k in range(3)
    ]


def segmentation(
    uid: str,
    *,
    series: list[str] | None = None,
    instances: list[str] | None = None,
    frame: str = "",
    patient: str = "p",
    kind: Kind = "RTSTRUCT",
    arrival: int = 0,
    day: int | None = None,
    authors: list[str] | None = None,
) -> DicomFile:
    header = Header(
        kind, uid, f"series-{uid}", "study", frame, patient, series or [], instances or [], authors or []
    )
    date_of = date(2026, 11, 1 + (arrival if day is None else day))
    return DicomFile(Path(uid), f"sha-{uid}", header, arrival, date_of)


def fate(cases: list[Case]) -> dict[str, tuple[str, str | None]]:
    return {case.series_instance_uid: (case.state, case.reason) for case in cases}


def test_ids_come_from_the_series_and_not_from_its_place() -> None:
    few = assemble(image("2"), "CT", ["RTSTRUCT"])
    many = assemble([*image("1"), *image("2"), *image("3")], "CT", ["RTSTRUCT"])
    assert few.images[0].case_id == many.images[1].case_id == case_id_of("2")


@pytest.mark.parametrize(
    "reference",
    [
        {"series": ["1"]},
        {"series": ["re-exported"], "instances": ["1.0", "1.1"]},
        {"instances": ["1.2"]},
        {"frame": "frame-1"},
    ],
)
def test_references_are_resolved_by_series_instances_and_frame(reference: dict[str, list[str]]) -> None:
    drawn = segmentation("9", **reference)  # type: ignore[arg-type]
    found = assemble([*image("1"), *image("2"), drawn], "CT", ["RTSTRUCT"])
    assert fate(found.images) == {"1": ("pending", None), "2": ("ignored", Reason.UNLABELLED)}
    assert found.images[0].segmentation is drawn
    assert found.segmentations == []


def test_instances_tell_which_of_several_series_is_meant() -> None:
    drawn = segmentation("9", series=["1", "2"], instances=["2.0", "2.1"])
    found = assemble([*image("1"), *image("2"), drawn], "CT", ["RTSTRUCT"])
    assert found.images[1].segmentation is drawn


@pytest.mark.parametrize(
    ("drawn", "state", "reason"),
    [
        (segmentation("9", series=["absent"]), "rejected", Reason.REFERENCE_ABSENT),
        (segmentation("9", series=["absent"], frame="frame-1"), "rejected", Reason.REFERENCE_ABSENT),
        (segmentation("9"), "rejected", Reason.REFERENCE_ABSENT),
        (segmentation("9", series=["1", "2"]), "rejected", Reason.REFERENCE_AMBIGUOUS),
        (segmentation("9", series=["1"], instances=["2.0"]), "rejected", Reason.REFERENCE_AMBIGUOUS),
        (segmentation("9", instances=["1.0", "2.0"]), "rejected", Reason.REFERENCE_AMBIGUOUS),
        (segmentation("9", series=["1"], patient="q"), "rejected", Reason.PATIENT_MISMATCH),
        (segmentation("9", series=["1"], kind="SEG"), "ignored", Reason.OTHER_MODALITY),
        (segmentation("9", series=["3"]), "ignored", Reason.OTHER_MODALITY),
    ],
)
def test_a_segmentation_that_fits_no_image_is_listed(drawn: DicomFile, state: str, reason: Reason) -> None:
    files = [*image("1"), *image("2"), *image("3", kind="MR"), drawn]
    found = assemble(files, "CT", ["RTSTRUCT"])
    assert fate(found.segmentations) == {"series-9": (state, reason)}
    assert fate(found.images)["1"] == ("ignored", Reason.UNLABELLED)
    assert fate(found.images)["3"] == ("ignored", Reason.OTHER_MODALITY)


def test_the_newest_segmentation_wins() -> None:
    old, new = segmentation("8", series=["1"]), segmentation("9", series=["1"], arrival=1)
    for files in ([old, new], [new, old]):
        found = assemble([*image("1"), *files], "CT", ["RTSTRUCT"])
        assert found.images[0].segmentation is new
        assert fate(found.segmentations) == {"series-8": ("ignored", Reason.SUPERSEDED)}


@pytest.mark.parametrize(
    ("arrival", "later_wins", "detail"),
    [
        (0, False, "RTSTRUCT 8 and RTSTRUCT 9 arrived together"),
        (1, False, "RTSTRUCT 8 and RTSTRUCT 9 are of one date"),
        (0, True, "RTSTRUCT 8 and RTSTRUCT 9 arrived together"),
        (1, True, None),
    ],
)
def test_two_of_one_date_are_an_error_that_names_both(
    arrival: int, later_wins: bool, detail: str | None
) -> None:
    """med-imagetools chooses by PYTHONHASHSEED."""
    drawn = [segmentation("8", series=["1"]), segmentation("9", series=["1"], arrival=arrival, day=0)]
    found = assemble([*image("1"), *drawn], "CT", ["RTSTRUCT"], later_wins=later_wins)
    if detail is None:
        assert found.images[0].segmentation is drawn[1]
        return
    assert fate(found.images) == {"1": ("rejected", Reason.SEVERAL_SEGMENTATIONS)}
    assert found.images[0].detail == detail
    refused = [(case.state, case.reason) for case in found.segmentations]
    assert refused == [("rejected", Reason.SEVERAL_SEGMENTATIONS)] * 2


def test_of_one_date_the_preferred_author_wins_whatever_the_order() -> None:
    first = segmentation("8", series=["1"], authors=["chief"])
    later = segmentation("9", series=["1"], authors=["trainee"], arrival=1, day=0)
    found = assemble([*image("1"), first, later], "CT", ["RTSTRUCT"], ["chief"])
    assert found.images[0].segmentation is first


def test_a_series_of_two_patients_is_refused() -> None:
    files = [*image("1", "p")[:2], *image("1", "q")[2:]]
    found = assemble(files, "CT", ["RTSTRUCT"])
    assert fate(found.images) == {"1": ("rejected", Reason.PATIENT_MISMATCH)}


@pytest.mark.parametrize(
    ("precedence", "chosen"),
    [
        (["Dr\\. Ash.*"], "8"),
        (["consensus", "dr\\. ash.*"], "9"),
        (["nobody", "Dr\\. Oak"], "9"),
        (["nobody"], None),
        ([".*"], None),
    ],
)
def test_of_two_that_arrived_together_the_preferred_author_wins(
    precedence: list[str], chosen: str | None
) -> None:
    drawn = [
        segmentation("8", series=["1"], authors=["Dr. Ash^Ida"]),
        segmentation("9", series=["1"], authors=["Dr. Oak", "Consensus"]),
    ]
    found = assemble([*image("1"), *drawn], "CT", ["RTSTRUCT"], precedence)
    (case,) = found.images
    assert (case.segmentation.header.sop_instance_uid if case.segmentation else None) == chosen
    assert len(found.segmentations) == (1 if chosen else 2), "each has its row"


def test_precedence_never_lets_an_older_one_win() -> None:
    old = segmentation("8", series=["1"], authors=["chief"])
    new = segmentation("9", series=["1"], authors=["trainee"], arrival=1)
    found = assemble([*image("1"), old, new], "CT", ["RTSTRUCT"], ["chief"])
    assert found.images[0].segmentation is new


def test_what_is_withdrawn_is_ignored_with_its_segmentation() -> None:
    files = [*image("1"), *image("2", "q"), segmentation("9", series=["1"])]
    found = assemble(files, "CT", ["RTSTRUCT"], (), lambda patient, _case: patient == "p")
    assert fate(found.images) == {
        "1": ("ignored", Reason.WITHDRAWN),
        "2": ("ignored", Reason.UNLABELLED),
    }
    assert fate(found.segmentations) == {"series-9": ("ignored", Reason.WITHDRAWN)}


def test_of_two_images_that_are_named_the_one_that_is_left_is_not_taken() -> None:
    """The one that was withdrawn may be the one that was drawn on."""
    drawn = segmentation("rt", series=["1", "2"])
    files = [*image("1"), *image("2"), drawn]
    gone = case_id_of("1")
    assembly = assemble(files, "CT", ["RTSTRUCT"], withdrawn=lambda _, case_id: case_id == gone)
    assert fate(assembly.segmentations) == {"series-rt": ("rejected", Reason.REFERENCE_AMBIGUOUS)}


def test_an_image_of_another_modality_is_not_meant() -> None:
    files = [*image("1"), *image("2", kind="MR"), segmentation("rt", series=["1", "2"])]
    assembly = assemble(files, "CT", ["RTSTRUCT"])
    assert fate(assembly.images)["1"] == ("pending", None)


@pytest.mark.parametrize(
    ("drawn", "named", "arrivals", "grown"),
    [
        (0, [], [0, 0, 0], 0),
        (1, [], [0, 0, 0], 0),
        (0, [], [0, 0, 1], 1),
        (1, [], [0, 1, 2], 1),
        (0, ["1.0", "1.1", "1.2"], [0, 0, 1], 0),  # drawn on all three, and first to arrive
        (0, ["1.0", "1.1"], [0, 1, 1], 1),
        (0, [], [1, 1, 1], 0),  # it waited for its image
    ],
)
def test_slices_that_came_after_a_drawing_are_no_background(
    drawn: int, named: list[str], arrivals: list[int], grown: int
) -> None:
    """Nobody has looked at them."""
    files = [file._replace(arrival=when) for file, when in zip(image("1"), arrivals, strict=True)]
    label = segmentation("s", series=["1"], instances=named, arrival=drawn)
    found = assemble([*files, label], "CT", ["RTSTRUCT"])
    (case,) = found.images
    if not grown:
        assert case.state == "pending"
        return
    assert (case.state, case.reason) == ("rejected", "image-has-grown")
    assert case.detail == f"{grown} slices came after RTSTRUCT s"
    assert [row.reason for row in found.segmentations] == ["image-has-grown"]
