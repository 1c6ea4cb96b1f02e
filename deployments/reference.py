"""Write the pages of docs/ that follow from the code: `make docs`.

`docs/configuration.md` from the pydantic models of `config/`, `docs/reasons.md` from the reason codes, and
`docs/commands.md` from the command line.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from flows.cli import app
from tasks.dicom.reasons import WHAT_TO_DO, WHERE
from tasks.settings.cluster import ClusterSettings
from tasks.settings.dataset import DatasetSettings, DeidentificationRecipe, RoiPatterns
from tasks.settings.notifications import NotificationSettings
from tasks.settings.simulation import Simulation
from tasks.settings.yaml_model import models_in

DOCS = Path(__file__).parents[1] / "docs"
FILES: dict[str, type[BaseModel]] = {
    "dataset_<dataset_id>.yaml": DatasetSettings,
    "clusters/<name>.yaml": ClusterSettings,
    "notifications.yaml": NotificationSettings,
    "deidentification.yaml": DeidentificationRecipe,
    "simulation_<dataset_id>.yaml": Simulation,
}
PLAIN_KINDS = {int: "number", float: "number", bool: "`true`, `false`", NoneType: "`null`", Any: "anything"}
MADE = "<!-- Made by `make docs` from the code. -->\n"


def configuration() -> str:
    """Every key of every file in `config/`."""
    parts = [
        MADE + "# Configuration",
        "What a user chooses stands in `config/`, one YAML file for each thing. A wrong key or value "
        "ends a command with the file, the key and what is allowed. `iterseg init DATASET` writes the "
        "first two for a new dataset.",
        "## `roi_<dataset_id>.yaml`",
        _prose(RoiPatterns),
        '```yaml\nGTV: GTV.*            # a pattern\nLung_L: ["lung.?l(eft)?", left lung]\n```',
    ]
    for file, model in FILES.items():
        parts += [f"## `{file}`", *_sections(model)]
    return "\n\n".join(parts) + "\n"


def reasons() -> str:
    """Every code with what to do."""
    parts = [
        MADE + "# Reason codes",
        "A series is done, rejected or ignored; a file is taken, duplicate, rejected, ignored or withdrawn. "
        "What is not done or taken has one of these codes, in the output of `iterseg ingest` and "
        "`iterseg prepare`, in `--json`, and in the report; only a duplicate has none: the same file was "
        "there before. Codes are stable: scripts may rely on them.",
    ]
    for where, codes in WHERE.items():
        rows = [f"| `{code.value}` | {WHAT_TO_DO[code]} |" for code in codes]
        parts += [f"## {where}", "\n".join(["| code | what it is, and what to do |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    """Every command with its options."""
    parts = [
        MADE + "# Commands",
        "`iterseg COMMAND --help` says the same. `iterseg --install-completion` lets the shell complete "
        "them. With `--json` a command prints one JSON object, described in the README.",
    ]
    group: Any = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):
        arguments = [p.name.upper() for p in command.params if not _is_option(p)]
        parts += [f"## {' '.join([f'iterseg {name}', *arguments])}", inspect.cleandoc(command.help or "")]
        rows = [
            f"| `{_options(p)}` | {_cell(p.help or '')}{_default(p)} |"
            for p in filter(_is_option, command.params)
        ]
        if rows:
            parts.append("\n".join(["| option | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _is_option(parameter: Any) -> bool:
    return bool(parameter.opts[0].startswith("-"))


def _options(parameter: Any) -> str:
    flag = parameter.is_flag or parameter.type_descriptor.annotation is bool
    metavar = "" if flag else f" {parameter.metavar or parameter.name.upper()}"
    return (", ".join([*parameter.opts, *parameter.secondary_opts]) + metavar).replace("|", "\\|")


def _default(parameter: Any) -> str:
    if parameter.required:
        return " Required."
    shown = isinstance(parameter.default, str | int | float) and not isinstance(parameter.default, bool)
    return f" Default: `{parameter.default}`." if shown else ""


def _sections(model: type[BaseModel], below: str = "") -> Iterator[str]:
    """The table of a model, and those of the models in it, each under its path."""
    yield _prose(model)
    yield _table(model)
    for name, inner in _inner(model):
        yield f"### `{below}{name}`"
        yield from _sections(inner, f"{below}{name}.")


def _inner(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        for part in models_in(field.annotation):
            yield name, part


def _table(model: type[BaseModel]) -> str:
    said = described(model)
    rows = []
    for name, field in model.model_fields.items():
        kind = _kind(field.annotation).replace("number", f"number{_limits(field.metadata)}", 1)
        default = field.get_default(call_default_factory=True)
        plain = "required" if field.is_required() else f"`{_plain(default)}`"
        shown = "" if isinstance(default, BaseModel) else plain
        rows.append(f"| `{name}` | {kind} | {shown} | {_cell(said.get(name, ''))} |")
    return "\n".join(["| key | one of | default | |", "|---|---|---|---|", *rows])


def _limits(metadata: Iterable[Any]) -> str:
    """Within what a number must be, as annotated_types has it."""
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    found = {name: getattr(m, name) for m in metadata for name in words if hasattr(m, name)}
    return "".join(f" {word} {found[name]}" for name, word in words.items() if name in found)


def _kind(annotation: Any) -> str:
    parts = get_args(annotation)
    ways: dict[Any, Callable[[], str]] = {
        Annotated: lambda: _kind(parts[0]) + _limits(parts[1:]),
        Literal: lambda: ", ".join(f"`{part}`" for part in parts),
        Union: lambda: " or ".join(map(_kind, parts)),
        UnionType: lambda: " or ".join(map(_kind, parts)),
        list: lambda: f"list of {_kind(parts[0])}",
        tuple: lambda: f"{len(parts)} × {_kind(parts[0])}",
        dict: lambda: f"mapping of {_kind(parts[0])} to {_kind(parts[1])}",
    }
    way = ways.get(get_origin(annotation))
    if way is not None:
        return way()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "see below"
    return PLAIN_KINDS.get(annotation, "text")


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", "")


def _prose(model: type[BaseModel]) -> str:
    return _cell(inspect.getdoc(model) or "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def described(model: type[BaseModel]) -> Mapping[str, str]:
    """Key → the words below it in the code, those of a base class included."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        (tree,) = ast.parse(inspect.getsource(base)).body
        assert isinstance(tree, ast.ClassDef)
        for field, words in zip(tree.body, tree.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant):
                found[field.target.id] = str(words.value.value)
    return found


PAGES = {"configuration.md": configuration, "reasons.md": reasons, "commands.md": commands}


def main() -> None:
    """Write them all."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
