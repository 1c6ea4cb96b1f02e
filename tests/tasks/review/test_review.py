"""Scores, pictures and the report page."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from bs4 import BeautifulSoup
from PIL import Image

from tasks.labels import Labels
from tasks.review.curves import Point
from tasks.review.montage import TILE_PIXELS, montage
from tasks.review.report import PredictedCase, ReportContent, StructureEffort, SuspectCase, render
from tasks.review.scores import dice, mean_scores, scores_of_files
from tasks.review.suspects import Suspect, suspect_labels

BOX = np.zeros((4, 4, 4), dtype=bool)
BOX[:2] = True
NONE = np.zeros_like(BOX)

LABELS = Labels(["a", "b", "c"], "label_image")


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [(BOX, BOX, 1.0), (BOX, ~BOX, 0.0), (BOX, ~NONE, 2 / 3), (NONE, BOX, 0.0), (NONE, NONE, None)],
)
def test_dice(truth: np.ndarray, prediction: np.ndarray, expected: float | None) -> None:
    assert dice(truth, prediction) == (None if expected is None else pytest.approx(expected))


def test_masks_of_different_shape_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        dice(BOX, BOX[:2])


def test_the_mean_leaves_out_what_is_not_defined() -> None:
    cases = [{"a": 1.0, "b": None}, {"a": 0.5, "b": None}]
    assert mean_scores(cases, ["a", "b"]) == {"a": 0.75, "b": None}
    assert mean_scores([], ["a"]) == {}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(0, 100, (10, 30, 20)).astype(np.int16))
    labels = np.zeros((10, 30, 20), dtype=np.uint8)
    labels[3:8, 10:20, 5:12] = 1
    labels[3:8, 20:25, 5:12] = 2
    label = sitk.GetImageFromArray(labels)
    for picture in (image, label):
        picture.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "i.nii.gz"))
    sitk.WriteImage(label, str(tmp_path / "l.nii.gz"))
    return tmp_path / "i.nii.gz", tmp_path / "l.nii.gz"


def test_scores_of_files(files: tuple[Path, Path]) -> None:
    _, label = files
    assert scores_of_files(label, label, LABELS, 2.0) == {
        "dice": {"a": 1.0, "b": 1.0, "c": None},
        "surface_dice": {"a": 1.0, "b": 1.0, "c": None},
        "hd95_mm": {"a": 0.0, "b": 0.0, "c": None},
    }


def test_a_montage_shows_the_structures_in_their_colours(files: tuple[Path, Path]) -> None:
    picture = Image.open(io.BytesIO(montage(*files, LABELS))).convert("RGB")
    assert picture.format is None or picture.size[1] == TILE_PIXELS
    pixels = np.asarray(picture).astype(int)
    red = (pixels[..., 0] - pixels[..., 2] > 80).sum()
    blue = (pixels[..., 2] - pixels[..., 0] > 80).sum()
    assert red > 100
    assert blue > 100


def test_a_second_label_map_is_outlined_in_white(files: tuple[Path, Path], tmp_path: Path) -> None:
    image, label = files
    moved = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(sitk.ReadImage(str(label))), 6, axis=2))
    moved.CopyInformation(sitk.ReadImage(str(label)))
    sitk.WriteImage(moved, str(tmp_path / "p.nii.gz"))

    def white(picture: bytes) -> int:
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
        return int((pixels.min(axis=2) > 245).sum())

    assert (
        white(montage(image, label, LABELS, tmp_path / "p.nii.gz"))
        > white(montage(image, label, LABELS)) + 100
    )


def test_a_model_of_another_lineage_is_compared_by_the_names_of_structures(files: tuple[Path, Path]) -> None:
    _, label = files
    other = Labels(["b", "a"], "label_image")
    scores = scores_of_files(label, label, LABELS, 2.0, other)
    assert scores["dice"] == {"a": 0.0, "b": 0.0, "c": None}
    assert scores_of_files(label, label, LABELS, 2.0, Labels(["a"], "label_image"))["dice"] == {
        "a": 1.0,
        "b": None,
        "c": None,
    }


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.91, 0.89, 0.9, 0.2], ["case4"]),
        ([0.9, 0.91, 0.89, 0.9, 0.0, 0.1], ["case4", "case5"]),
        ([0.9, 0.9, 0.9, 0.9, 0.85], []),  # nobody would see the difference
        ([0.1, 0.9, 0.2, 0.8, 0.5, 0.6], []),  # a network that knows nothing accuses nobody
        ([0.9, 0.9, 0.9, 0.1], []),  # of four, who is the odd one?
        ([0.9, 0.91, 0.89, 0.9, 0.92, None], []),
    ],
)
def test_labels_far_below_the_others_are_suspect(scores: list[float | None], expected: list[str]) -> None:
    cases = {f"case{n}": {"a": value, "b": 0.9} for n, value in enumerate(scores)}
    found = suspect_labels(cases, ["a", "b"])
    assert [suspect.case_id for suspect in found] == expected
    assert {suspect.structure for suspect in found} <= {"a"}


EFFORT = StructureEffort("2026-11-23", "GTV", 4, 1, Point(120, 80, 160, 4), 3.5, 0.75, 0.81, 0.9, 4.25)
WAITING = {
    "place": 1,
    "case_id": "case2",
    "reason": "folds agree on GTV to a Dice of 0.52 only",
    "slices": [7, 3],
    "assigned": "a reader",
    "locked": True,
    "flagged": False,
    "skipped": False,
    "segmentation": "results/case2.seg.dcm",
    "viewer": "http://viewer/?study=1.2.3",
}


def webp() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (6 * 160, 160)).save(stream, "WEBP")
    return stream.getvalue()


PICTURE = webp()


def content(**changes: object) -> ReportContent:
    model = {
        "model_id": "2026-11-23",
        "parent": None,
        "cases": {"training": 6, "test": 2},
        "test_dice": {"GTV": 0.8},
        "validation_dice": {"0": {"GTV": 0.7}, "1": {"GTV": 0.9}},
        "test_surface_dice": {"GTV": 0.95},
        "test_hd95_mm": {"GTV": 2.25},
        "compared_with": None,
        "basis": "the first model",
        "verdicts": [],
        "accepted": True,
        "promoted": True,
        "lineage": 1,
        "imported_from": None,
        "control": None,
    }
    verdict = {"structure": "GTV", "difference": -0.31, "lower_bound": -0.4, "non_inferior": False}
    worse = {
        **model,
        "model_id": "2026-11-23.2",
        "compared_with": "2026-11-23",
        "basis": "test set",
        "verdicts": [verdict],
        "accepted": False,
        "promoted": False,
    }
    later = {**model, "model_id": "2026-11-24", "parent": "2026-11-23", "test_dice": {"GTV": 0.9}}
    later["control"] = {"winner": "warm start"}
    values: dict[str, object] = {
        "dataset_id": "D",
        "written": "2026-11-24 06:00",
        "in_use": "2026-11-24",
        "structures": ["GTV"],
        "account": {"labelled": 8, "unlabelled": 2},
        "set_aside": [{"case_id": "case1", "reason": "overlap", "detail": "<script>alert(1)</script>"}],
        "models": [model, worse, later],
        "test_points": {
            "GTV": [Point(0.8, 0.7, 0.9, 2), Point(0.49, 0.4, 0.6, 2), Point(0.9, 0.85, 0.95, 2)]
        },
        "effort": [EFFORT],
        "worklist": [WAITING, {**WAITING, "place": 2, "case_id": "case3", "segmentation": "", "slices": []}],
        "strategy": "fold disagreement",
        "predictions": [PredictedCase("case2", "results/case2.seg.dcm", {"GTV": 1.5}, PICTURE, "why", [7])],
        "suspects": [SuspectCase(Suspect("case7", "GTV", 0.112, 0.9), PICTURE)],
        "drift": {
            "lineage": 1,
            "measured": "2026-11-24",
            "cases": 12,
            "worth_it": True,
            "rows": [{"what": "patch", "frozen": [8], "today": [12], "change": 0.5, "matters": True}],
        },
    }
    return ReportContent(**{**values, **changes})  # type: ignore[arg-type]


def test_the_page_says_what_is_in_use_how_it_scores_and_what_to_correct() -> None:
    page = BeautifulSoup(render(content()), "html.parser")
    text = page.get_text(" ")
    for words in ("0.950", "2.2", "2026-11-24", "labelled", "0.900", "0.800", "case2", "1.50 ml", "overlap"):
        assert words in text
    line = page.find("polyline")
    assert line is not None
    assert len(str(line["points"]).split()) == 3
    assert "not put into use: against 2026-11-23 on the test set: GTV -0.310 (at least -0.400)" in text
    assert "was in use" in text
    assert "warm start won its race" in text
    for words in ("120 (80 to 160)", "25%", "0.75", "0.810", "fold disagreement", "2 images wait", "locked"):
        assert words in text
    assert "folds agree on GTV to a Dice of 0.52 only" in text
    assert "a reader" in text
    row = page.find(id="w-case2")
    assert row is not None
    assert [link["href"] for link in row.find_all("a")] == ["http://viewer/?study=1.2.3"]
    assert len(row.find_all("img")) == 1
    unpredicted = page.find(id="w-case3")
    assert unpredicted is not None
    assert unpredicted.find("img") is None
    for words in ("case7", "0.112", "median of all cases 0.900", "worth a training from scratch", "50%"):
        assert words in text


def test_the_page_needs_no_network_and_runs_no_script() -> None:
    page = BeautifulSoup(render(content()), "html.parser")
    assert page.find_all(["script", "link", "iframe"]) == []
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in page.find_all("img"))


def test_a_dataset_without_a_model_has_a_page() -> None:
    empty = ("predictions", "worklist", "effort", "suspects", "models", "set_aside")
    text = render(content(**{key: [] for key in empty}, in_use=None, test_points={}, drift=None))
    assert "none yet" in text
    assert "No model has been trained yet" in text
