"""The command that writes a dataset's first choices, having looked at its DICOM."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.command import checked, existing_folder, fail, show
from flows.options import AsJson, Dataset
from tasks.errors import ConfigError

if TYPE_CHECKING:
    from tasks.dicom.proposals import Proposal
    from tasks.dicom.survey import Drawing, Survey
    from tasks.labels import MissingStructure
    from tasks.new_dataset import Beginning

of_init = typer.Typer()

Structures = Annotated[
    list[str] | None,
    typer.Option("--structure", metavar="NAME=PATTERN", help="What to learn, in order; may repeat."),
]


@of_init.command(rich_help_panel="To begin with")
def init(
    dataset: Dataset,
    look: Annotated[Path | None, typer.Option(help="A folder of its DICOM; it stays as it is.")] = None,
    modality: Annotated[str | None, typer.Option(metavar="CT|MR", help="Which images to learn on.")] = None,
    structure: Structures = None,
    folds: Annotated[int | None, typer.Option(min=2, max=20, help="How many; they stay for ever.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Several ROIs of one structure are one.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what is proposed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the YAML files of a new dataset. Example: iterseg init PM_IASLC --look /incoming"""
    from tasks.delivery import files_below, was_deleted
    from tasks.dicom.survey import survey
    from tasks.ledger.paths import DatasetPaths
    from tasks.new_dataset import patterns_of, refuse_existing, write
    from tasks.shown.progress import progress

    paths = checked(DatasetPaths.of, dataset, as_json)
    checked(lambda at: refuse_existing(at, dataset), paths.config, as_json)
    folder = checked(lambda at: existing_folder(at, "--look"), look, as_json)
    named = checked(patterns_of, structure or [], as_json)
    asked = not yes and not as_json and not named and sys.stdin.isatty()

    def look_at(at: str | Path) -> Survey:
        files = [path for path in files_below(Path(at)) if not was_deleted(path, Path(at))]
        return survey(files, lambda looked, of: progress(looked, "look", of))

    found = checked(look_at, folder, as_json)
    if found is None and not named:
        fail(ConfigError("give --look FOLDER, or --structure NAME=PATTERN for each structure"), as_json)
    if found is not None and not as_json:
        typer.echo(_seen(found))
    if not named and not yes and not asked:
        fail(ConfigError("there is no terminal to ask on; add --yes, or --structure NAME=PATTERN"), as_json)

    def settle(_: object) -> tuple[Beginning, list[Proposal], int]:
        return _settled(found, modality, named, folds, merge=merge, asked=asked)

    beginning, rows, of = checked(settle, True, as_json)
    written = checked(lambda chosen: write(paths.config, dataset, chosen), beginning, as_json)
    show(
        {
            "stage": "init",
            "dataset": dataset,
            "written": [str(path) for path in written],
            "structures": [{**vars(row), "of": of} for row in rows],
            "delivery": folder,
            **_about(found, beginning, rows),
            "merge": beginning.merge,
            "absences": dict(beginning.absences),
        },
        as_json,
    )


def _about(found: Survey | None, beginning: Beginning, rows: Sequence[Proposal]) -> dict[str, Any]:
    """What was decided besides names, and what of the folder is left out."""
    drawings = found.of(beginning.image_kind) if found else []
    matched = {name for row in rows for name in row.matches}
    others = Counter(name for drawing in drawings for name in set(drawing.names) - matched)
    return {
        "learns_on": beginning.image_kind,
        "folds": beginning.folds,
        "images": found.images[beginning.image_kind] if found else None,
        "annotated_patients": len({drawing.patient for drawing in drawings}) if found else None,
        "left_out": dict(sorted(others.items(), key=lambda item: (-item[1], item[0]))),
    }


def _seen(found: Survey) -> str:
    from tasks.dicom.reasons import WHAT_TO_DO, Reason

    images = " and ".join(f"{count} {kind}" for kind, count in found.images.most_common()) or "no CT or MR"
    lines = [
        f"looked at {found.files} files: {images} series of {found.patients} patients, "
        f"{len(found.drawings)} segmentations"
    ]
    alone = sum(drawing.image_kind is None for drawing in found.drawings)
    if alone:
        lines.append(f"  {alone} segmentations are of images that are not there, and are not counted below")
    return "\n".join(
        [*lines, *(f"  {code}: {n} files. {WHAT_TO_DO[Reason(code)]}" for code, n in found.left_out.items())]
    )


def _settled(
    found: Survey | None,
    modality: str | None,
    named: dict[str, str],
    folds: int | None,
    *,
    merge: bool,
    asked: bool,
) -> tuple[Beginning, list[Proposal], int]:
    """What is written, what its patterns match, and in how many segmentations they were looked for."""
    from tasks.dicom.proposals import described
    from tasks.new_dataset import begin

    kind = _modality(found, modality, asked=asked)
    drawings = found.of(kind) if found else []
    drawn = [drawing.names for drawing in drawings]
    if named:
        rows = [described(name, pattern, drawn) for name, pattern in named.items()]
    else:
        rows = _chosen(drawings, kind, asked=asked)
    several = any(row.several_in for row in rows)
    if several and asked and not merge:
        merge = typer.confirm("Several ROIs of one structure: are they one structure, merged?", default=False)
    absences = _absences(rows, len(drawn)) if asked else {}
    return begin(kind, drawings, rows, folds, merge=merge, absences=absences), rows, len(drawn)


def _modality(found: Survey | None, chosen: str | None, *, asked: bool) -> str:
    """The kind of images to learn on: as told, as answered, or the likeliest."""
    from tasks.new_dataset import image_kinds

    kinds = image_kinds(found, chosen)
    if asked and len(kinds) > 1:
        return str(typer.prompt("Learn on which images?", default=kinds[0], value_proc=_one_of(kinds)))
    return kinds[0]


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def chosen(answer: str) -> str:
        found = [word for word in words if word.lower() == answer.strip().lower()]
        if not found:
            raise typer.BadParameter(f"one of {', '.join(words)}")
        return found[0]

    return chosen


def _chosen(drawings: Sequence[Drawing], kind: str, *, asked: bool) -> list[Proposal]:
    """Those of the proposals that shall be learned; without a person, the usual ones."""
    from dataclasses import replace

    from tasks.new_dataset import proposals_for

    proposals, usual = proposals_for(drawings, kind)
    if not asked:
        return [proposals[number - 1] for number in usual]
    from flows.words_at_the_start import of_proposals

    typer.echo(of_proposals([vars(p) for p in proposals], len(drawings), numbered=True))
    text = "Learn which? Numbers in the order of their labels, outer structures first"
    numbers = typer.prompt(
        text, default=",".join(map(str, usual)), value_proc=lambda answer: _numbers(answer, len(proposals))
    )
    rows = [proposals[number - 1] for number in numbers]
    return [replace(row, structure=typer.prompt("  its name", default=row.structure).strip()) for row in rows]


def _numbers(answer: str, most: int) -> list[int]:
    try:
        numbers = [int(part) for part in answer.split(",")]
    except ValueError:
        raise typer.BadParameter("numbers with commas, such as 1,2") from None
    if len(set(numbers)) != len(numbers) or not all(1 <= number <= most for number in numbers):
        raise typer.BadParameter(f"numbers from 1 to {most}, each once")
    return numbers


def _absences(rows: Sequence[Proposal], drawings: int) -> dict[str, MissingStructure]:
    """What it means that a segmentation lacks a structure."""
    found: dict[str, MissingStructure] = {}
    for row in rows:
        if row.found_in < drawings:
            lacking = f"{drawings - row.found_in} of {drawings}"
            text = f"{row.structure} is missing in {lacking}: what does that mean?"
            typer.echo("  error: the case is rejected. absent: it is not there. unlabelled: nobody drew it")
            meanings = _one_of(["error", "absent", "unlabelled"])
            found[row.structure] = typer.prompt(text, default="error", value_proc=meanings)
    return found
