"""The report: one self-contained HTML page for a dataset, readable on a phone, without network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tasks.review.montage import COLOURS
from tasks.review.suspects import Suspect

CURVE_WIDTH, CURVE_HEIGHT, CURVE_MARGIN = 640, 240, 36

STYLE = """
:root { color-scheme: light dark; --line: #8885; --muted: #777; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
.muted { color: var(--muted); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td:first-child, td:nth-child(2) { white-space: nowrap; }
th, td { text-align: left; vertical-align: bottom; padding: .35rem .6rem; }
th, td { border-bottom: 1px solid var(--line); }
figure { margin: 1.2rem 0; } figure img, svg { width: 100%; height: auto; }
figcaption code { font-size: .9em; }
"""


@dataclass(frozen=True)
class PredictedCase:
    """A prediction on the page: where its SEG lies, how much it holds, and a WebP picture."""

    case_id: str
    segmentation: str
    volume_ml: Mapping[str, float]
    picture: bytes


@dataclass(frozen=True)
class SuspectCase:
    """A label to look at again, with a WebP picture of it and of what the network drew."""

    suspect: Suspect
    picture: bytes


@dataclass(frozen=True)
class ReportContent:
    """Everything the page shows. ``models`` are records as plain content, oldest first."""

    dataset_id: str
    written: str
    in_use: str | None
    structures: Sequence[str]
    account: Mapping[str, int]
    set_aside: Sequence[Mapping[str, Any]]
    models: Sequence[Mapping[str, Any]]
    predictions: Sequence[PredictedCase] = field(default_factory=list)
    suspects: Sequence[SuspectCase] = field(default_factory=list)
    drift: Mapping[str, Any] | None = None


def render(content: ReportContent) -> str:
    """The page as HTML text."""
    parts = [
        f"<h1>{escape(content.dataset_id)}</h1>",
        f"<p class=muted>written {escape(content.written)}; model in use: "
        f"<b>{escape(content.in_use or 'none yet')}</b></p>",
        "<h2>Account</h2>",
        _table(["", "cases"], [[name, count] for name, count in content.account.items()]),
        "<h2>Learning curve</h2>",
        _curve(content),
        _models(content),
    ]
    if content.drift:
        parts += [_drift(content.drift)]
    if content.suspects:
        parts += [
            "<h2>Labels to look at again</h2><p class=muted>Networks that have not seen these cases strongly "
            "disagree with their labels. The label is outlined in colour, what was predicted in white; "
            "the label may be right and the case hard.</p>",
            *map(_suspect, content.suspects),
        ]
    if content.set_aside:
        rows = [[row["case_id"], row["reason"], row["detail"]] for row in content.set_aside]
        parts += ["<h2>Set aside</h2>", _table(["case", "reason", "detail"], rows)]
    if content.predictions:
        parts += ["<h2>Predictions to correct</h2>", *map(_figure, content.predictions)]
    title = escape(f"IterSeg: {content.dataset_id}")
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _models(content: ReportContent) -> str:
    header = ["model", "parent", "lineage", "training cases", "test cases"]
    header += [f"test Dice {name}" for name in content.structures]
    header += [f"surface Dice {name}" for name in content.structures]
    header += [f"HD95 {name}, mm" for name in content.structures]
    header += [f"cross-validation Dice {name}" for name in content.structures]
    header += ["outcome"]
    rows = []
    for model in content.models:
        origin = model["parent"] or ("imported" if model["imported_from"] else "from scratch")
        row: list[Any] = [model["model_id"], origin, model["lineage"]]
        row += [model["cases"]["training"], model["cases"]["test"]]
        row += [_score(model["test_dice"].get(name)) for name in content.structures]
        row += [_score(model["test_surface_dice"].get(name)) for name in content.structures]
        row += [_score(model["test_hd95_mm"].get(name), 1) for name in content.structures]
        row += [_score(_cross_validation(model, name)) for name in content.structures]
        row += [_outcome(model, content.in_use)]
        rows.append(row)
    return _table(header, rows) if rows else "<p>No model has been trained yet.</p>"


def _outcome(model: Mapping[str, Any], in_use: str | None) -> str:
    """What became of a model, in words."""
    raced = f"; {model['control']['winner']} won its race" if model["control"] else ""
    return _use(model, in_use) + raced


def _use(model: Mapping[str, Any], in_use: str | None) -> str:
    if model["model_id"] == in_use:
        return "in use"
    if model["accepted"]:
        return "was in use"
    worse = [v for v in model["verdicts"] if not v["non_inferior"]]
    changes = ", ".join(
        f"{v['structure']} {v['difference']:+.3f} (at least {v['lower_bound']:+.3f})" for v in worse
    )
    return f"not put into use: against {model['compared_with']} on the {model['basis']}, {changes}"


def _cross_validation(model: Mapping[str, Any], structure: str) -> float | None:
    scores = [fold.get(structure) for fold in model["validation_dice"].values()]
    defined = [score for score in scores if score is not None]
    return sum(defined) / len(defined) if defined else None


def _curve(content: ReportContent) -> str:
    """Dice on the fixed test set against the model, one line for each structure."""
    if not any(model["test_dice"] for model in content.models):
        return "<p class=muted>No patient is in the test set, so there is no curve.</p>"
    marks = [_axes()]
    for number, structure in enumerate(content.structures):
        red, green, blue = COLOURS[number % len(COLOURS)]
        colour = f"rgb({red},{green},{blue})"
        points = [
            (_x(position, len(content.models)), _y(score))
            for position, model in enumerate(content.models)
            if (score := model["test_dice"].get(structure)) is not None
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        marks.append(f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='2'/>")
        marks += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>" for x, y in points]
        x = CURVE_MARGIN + 8 + 150 * number
        marks.append(f"<text x='{x}' y='14' fill='{colour}'>{escape(structure)}</text>")
    names = "".join(
        f"<text x='{_x(n, len(content.models)):.1f}' y='{CURVE_HEIGHT - 10}' text-anchor='middle' "
        f"fill='currentColor'>{escape(str(model['model_id']))}</text>"
        for n, model in enumerate(content.models)
    )
    return (
        f"<svg viewBox='0 0 {CURVE_WIDTH} {CURVE_HEIGHT}' role='img' font-size='12' "
        f"aria-label='Dice on the test set for each model'>{''.join(marks)}{names}</svg>"
    )


def _axes() -> str:
    lines = []
    for dice in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(dice)
        lines.append(
            f"<line x1='{CURVE_MARGIN}' x2='{CURVE_WIDTH}' y1='{y}' y2='{y}' stroke='#8885'/>"
            f"<text x='0' y='{y + 4}' fill='currentColor'>{dice:.2f}</text>"
        )
    return "".join(lines)


def _x(position: int, count: int) -> float:
    return CURVE_MARGIN + (CURVE_WIDTH - CURVE_MARGIN) * (position + 0.5) / count


def _y(dice: float) -> float:
    return CURVE_MARGIN + (CURVE_HEIGHT - 2 * CURVE_MARGIN) * (1 - dice)


def _drift(drift: Mapping[str, Any]) -> str:
    """What new plans would change, as `iterseg plan` found."""
    verdict = "new plans are worth a training from scratch" if drift["worth_it"] else "they still fit"
    rows = [
        [row["what"], row["frozen"], row["today"], "–" if row["change"] is None else f"{row['change']:.0%}"]
        for row in drift["rows"]
    ]
    return (
        f"<h2>Frozen plans</h2><p>Lineage {drift['lineage']}, measured {escape(str(drift['measured']))} with "
        f"{drift['cases']} cases: <b>{verdict}</b>.</p>"
    ) + _table(["", "frozen", "today", "change"], rows)


def _suspect(case: SuspectCase) -> str:
    picture = base64.b64encode(case.picture).decode()
    suspect = case.suspect
    return (
        f"<figure><img loading=lazy alt='slices of {escape(suspect.case_id)} with label and prediction' "
        f"src='data:image/webp;base64,{picture}'><figcaption><b>{escape(suspect.case_id)}</b> "
        f"{escape(suspect.structure)}: Dice {suspect.dice:.3f} <span class=muted>(median of all cases "
        f"{suspect.median:.3f})</span></figcaption></figure>"
    )


def _figure(case: PredictedCase) -> str:
    picture = base64.b64encode(case.picture).decode()
    volumes = ", ".join(f"{escape(name)} {ml:.2f} ml" for name, ml in case.volume_ml.items())
    return (
        f"<figure><img loading=lazy alt='slices of {escape(case.case_id)} with the prediction' "
        f"src='data:image/webp;base64,{picture}'><figcaption><b>{escape(case.case_id)}</b> "
        f"<span class=muted>{volumes}</span><br><code>{escape(case.segmentation)}</code>"
        "</figcaption></figure>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _score(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
