"""The report page."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tasks.colours import css_of
from tasks.review.curves import Point
from tasks.review.report import (
    PredictedCase,
    ReportContent,
    StructureEffort,
    SuspectCase,
    millilitres,
    render,
)
from tasks.review.suspects import Suspect

EFFORT = StructureEffort(
    *("2026-11-23", "GTV", 4, 1, Point(120, 80, 160, 4)),
    3.5,
    0.75,
    0.81,
    0.9,
    4.25,
    with_dice=4,
    with_distance=4,
)
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
        "test_cases": [{"dice": {"GTV": 0.9}, "hd95_mm": {"GTV": 2.25}}],
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


def test_a_cross_validated_score_is_of_cases_and_not_of_folds() -> None:
    """Of which one may have a single case that went wrong."""
    values = content()
    models = [{**model, "cross_validation": {"GTV": 0.613}} for model in values.models]
    assert "0.613" in BeautifulSoup(render(content(models=models)), "html.parser").get_text(" ")


def test_the_page_needs_no_network_and_runs_no_script() -> None:
    page = BeautifulSoup(render(content()), "html.parser")
    assert page.find_all(["script", "link", "iframe"]) == []
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in page.find_all("img"))


def test_a_dataset_without_a_model_has_a_page() -> None:
    empty = ("predictions", "worklist", "effort", "suspects", "models", "set_aside")
    text = render(content(**{key: [] for key in empty}, in_use=None, test_points={}, drift=None))
    assert "none yet" in text
    assert "No model has been trained yet" in text


def test_a_distance_says_of_how_many_cases_it_is() -> None:
    """A model that misses a tumour has no distance there, and must not look the better for it."""
    missed = {"dice": {"GTV": 0.0}, "hd95_mm": {"GTV": None}}
    absent = {"dice": {"GTV": None}, "hd95_mm": {"GTV": None}}
    models = [dict(model) for model in content().models]
    models[0]["test_cases"] = [*models[0]["test_cases"], missed, absent]
    text = BeautifulSoup(render(content(models=models)), "html.parser").get_text(" ")
    assert "2.2 (1 of 2 cases)" in text
    assert text.count("cases)") == 1, "of all it need not be said"


def test_a_single_patient_has_no_interval() -> None:
    alone = replace(EFFORT, cases=1, unedited=0, path_length_mm=Point(120, 120, 120, 1), with_distance=1)
    text = BeautifulSoup(render(content(effort=[alone])), "html.parser").get_text(" ")
    assert "120 to 120" not in text


@pytest.mark.parametrize(
    ("volume_ml", "words"),
    [(0.0, "nothing"), (0.0004, "0.0004 ml"), (0.012, "0.01 ml"), (1.5, "1.50 ml")],
)
def test_a_little_is_not_nothing(volume_ml: float, words: str) -> None:
    assert millilitres(volume_ml) == words


def test_a_structure_has_one_colour_on_the_page() -> None:
    """In the pictures' captions, the learning curve and the curve of effort, in whatever order they came."""
    effort = [replace(EFFORT, structure=name) for name in "ab"]
    points = {name: [Point(0.8, 0.7, 0.9, 2)] * 3 for name in "ba"}
    page = BeautifulSoup(
        render(
            content(
                structures=["a", "b"],  # as the ROI file has them since the model was trained
                pictured=["b", "a"],
                effort=effort,
                test_points=points,
                predictions=[PredictedCase("case2", "x.dcm", {"a": 1.5, "b": 0.0}, PICTURE)],
            )
        ),
        "html.parser",
    )
    for name, number in (("b", 0), ("a", 1)):
        legends = [t for t in page.find_all("text") if t.get_text().endswith(f" {name}")]
        assert {str(legend.tspan["fill"]) for legend in legends if legend.tspan} == {css_of(number)}
        assert len(legends) == 2
        key = [span for span in page.find_all("span") if str(span.next_sibling).strip() == name]
        assert {str(span["style"]) for span in key} <= {f"color: {css_of(number)}"}
    caption = page.find("figcaption")
    assert caption is not None
    assert "a: 1.50 ml, ● b: nothing" in " ".join(caption.get_text().split())
