"""The report: one self-contained HTML page for a dataset, readable on a phone, without network.

The page itself is ``report.html.j2``; here is what it is filled with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from tasks.colours import css_of
from tasks.review.curves import Point, curve, in_words
from tasks.review.fate import cases_with_distance, fate_of, of_cases, score_in_words
from tasks.review.montage import thumbnail
from tasks.review.page import template
from tasks.review.scores import mean_of_defined
from tasks.review.suspects import Suspect


@dataclass(frozen=True)
class PredictedCase:
    """A prediction on the page: where its object lies, how much it holds, a WebP picture, what to look at."""

    case_id: str
    segmentation: str
    volume_ml: Mapping[str, float]
    picture: bytes
    reason: str = ""
    slices: Sequence[int] = ()


@dataclass(frozen=True)
class SuspectCase:
    """A label to look at again, a WebP picture of it and of what the network drew, and where they differ."""

    suspect: Suspect
    picture: bytes
    slices: Sequence[int] = ()


@dataclass(frozen=True)
class StructureEffort:
    """What corrections of a model's predictions cost, of one structure; means, accepted ones included."""

    model: str
    structure: str
    cases: int
    unedited: int
    path_length_mm: Point
    slices: float
    volume_ml: float
    dice: float | None
    surface_dice: float | None
    hd95_mm: float | None
    with_dice: int
    """In how many of the cases there is anything, before or after: else it has no Dice."""
    with_distance: int
    """In how many it is there before and after: else it has no HD95."""


@dataclass(frozen=True)
class ReportContent:
    """Everything the page shows.

    Attributes
    ----------
    models
        Records as plain content, oldest first.
    test_points
        Structure → mean Dice on the test set with its interval, one for each model.
    effort
        Oldest model first.
    worklist
        Rows of :mod:`tasks.worklist`, the first one first.
    predictions
        In the order in which they are to be looked at.
    not_pictured
        How many more there are, further down the worklist.
    pictured
        The structures of the model in use, in the order of their colours in the pictures.
    """

    dataset_id: str
    written: str
    in_use: str | None
    structures: Sequence[str]
    account: Mapping[str, int]
    set_aside: Sequence[Mapping[str, Any]]
    models: Sequence[Mapping[str, Any]]
    test_points: Mapping[str, Sequence[Point | None]] = field(default_factory=dict)
    effort: Sequence[StructureEffort] = field(default_factory=list)
    worklist: Sequence[Mapping[str, Any]] = field(default_factory=list)
    strategy: str = ""
    predictions: Sequence[PredictedCase] = field(default_factory=list)
    not_pictured: int = 0
    pictured: Sequence[str] = field(default_factory=list)
    suspects: Sequence[SuspectCase] = field(default_factory=list)
    drift: Mapping[str, Any] | None = None

    @property
    def in_their_colours(self) -> list[str]:
        """All structures; those of the pictures first, whose colours they have in the curves, too."""
        worked_on = [row.structure for row in self.effort]
        return list(dict.fromkeys([*self.pictured, *self.structures, *worked_on]))


def render(content: ReportContent) -> str:
    """The page as HTML text."""
    effort = [effort_row(row) for row in content.effort]
    return template("report.html.j2").render(
        content=content,
        learning=Markup(_learning_curve(content)),  # noqa: S704 - what is drawn escapes its own names
        effort_curve=Markup(_effort_curve(content)),  # noqa: S704
        effort_header=list(effort[0]) if effort else [],
        effort_rows=[list(row.values()) for row in effort],
        thumbnails={case.case_id: thumbnail(case.picture) for case in content.predictions},
        key={name: css_of(number) for number, name in enumerate(content.pictured)},
        millilitres=millilitres,
        model_header=_model_header(content),
        model_rows=[_model_row(content, number) for number in range(len(content.models))],
        drift_rows=_drift_rows(content.drift),
    )


def _learning_curve(content: ReportContent) -> str:
    """Empty where no model was scored on a test set."""
    if not any(point for points in content.test_points.values() for point in points):
        return ""
    names = [str(model["model_id"]) for model in content.models]
    nothing: list[Point | None] = [None] * len(names)
    lines = {name: content.test_points.get(name, nothing) for name in content.in_their_colours}
    return curve("Dice on the test set, by model", names, lines, top=1.0)


def _effort_curve(content: ReportContent) -> str:
    if not content.effort:
        return ""
    models = list(dict.fromkeys(row.model for row in content.effort))
    found = {(row.structure, row.model): row.path_length_mm for row in content.effort}
    lines = {name: [found.get((name, model)) for model in models] for name in content.in_their_colours}
    return curve("Added path length per case, mm, by the model that predicted", models, lines)


def effort_row(row: StructureEffort) -> dict[str, str]:
    """A row of the table, the column's name with its unit → what stands there."""
    return {
        "predicted by": row.model,
        "structure": row.structure,
        "corrections": str(row.cases),
        "unedited": f"{row.unedited / row.cases:.0%}",
        "path, mm": in_words(row.path_length_mm, ".0f"),
        "slices": f"{row.slices:.1f}",
        "ml": f"{row.volume_ml:.2f}",
        "Dice": score_in_words(row.dice) + of_cases(row.with_dice, row.cases),
        "surface Dice": score_in_words(row.surface_dice) + of_cases(row.with_dice, row.cases),
        "HD95, mm": score_in_words(row.hd95_mm, 1) + of_cases(row.with_distance, row.cases),
    }


def _model_header(content: ReportContent) -> list[str]:
    header = ["model", "parent", "lineage", "training cases", "test cases"]
    for what in ("test Dice {}", "surface Dice {}", "HD95 {}, mm", "cross-validation Dice {}"):
        header += [what.format(name) for name in content.structures]
    return [*header, "outcome"]


def _model_row(content: ReportContent, number: int) -> list[Any]:
    model = content.models[number]
    origin = model["parent"] or ("imported" if model["imported_from"] else "from scratch")
    row: list[Any] = [model["model_id"], origin, model["lineage"]]
    row += [model["cases"]["training"], model["cases"]["test"]]
    points = [content.test_points.get(name, []) for name in content.structures]
    row += [_score_of(point[number]) if number < len(point) else "–" for point in points]
    row += [score_in_words(model["test_surface_dice"].get(name)) for name in content.structures]
    distances = {name: score_in_words(model["test_hd95_mm"].get(name), 1) for name in content.structures}
    row += [
        f"{text}{of_cases(*cases_with_distance(model['test_cases'], name))}"
        for name, text in distances.items()
    ]
    row += [score_in_words(_cross_validation(model, name)) for name in content.structures]
    return [*row, _outcome(model, content.in_use)]


def _score_of(point: Point | None) -> str:
    return "–" if point is None else in_words(point, ".3f")


def millilitres(volume_ml: float) -> str:
    """A volume as people read it: a little is not nothing."""
    if not volume_ml:
        return "nothing"
    return f"{volume_ml:.2f} ml" if volume_ml >= 0.01 else f"{volume_ml:.1g} ml"


def _outcome(model: Mapping[str, Any], in_use: str | None) -> str:
    """What became of a model, in words."""
    raced = f"; {model['control']['winner']} won its race" if model["control"] else ""
    return fate_of(model, in_use) + raced


def _cross_validation(model: Mapping[str, Any], structure: str) -> float | None:
    """Over all cases; of an older model, over its folds, which may have very different numbers of them."""
    if over_cases := model.get("cross_validation"):
        found: float | None = over_cases.get(structure)
        return found
    return mean_of_defined(fold.get(structure) for fold in model["validation_dice"].values())


def _drift_rows(drift: Mapping[str, Any] | None) -> list[list[Any]]:
    return [
        [row["what"], row["frozen"], row["today"], "–" if row["change"] is None else f"{row['change']:.0%}"]
        for row in (drift or {"rows": []})["rows"]
    ]
