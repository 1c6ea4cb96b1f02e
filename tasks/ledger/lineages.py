"""Lineages: models that share structures and plans, so that each may start from the one before.

Plans are made once for a lineage and kept in the ledger, held by their digest. Which lineage is being
trained is a decision on record: of the first iteration, of `iterseg plan --new-lineage`, of an import, or
of a rollback to a model of an older one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tasks.errors import UserDataError
from tasks.labels import Labels, MaskStrategy
from tasks.ledger.files import digest_of, read_json, whole_folder, write_json
from tasks.ledger.journal import Journal, now
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.registry import register

LONGEST_REASON = 200
"""Characters of why a lineage was begun."""


@dataclass(frozen=True)
class Lineage:
    """What is frozen within a lineage.

    Attributes
    ----------
    structures
        In the order of the labels.
    plans
        Digest of plans, ``dataset.json`` and fingerprint; None: not planned yet.
    base
        The imported model that it starts from.
    why
        In words, for the account.
    """

    number: int
    opened: str
    why: str
    structures: list[str]
    mask_strategy: MaskStrategy
    plans_name: str
    configuration: str
    base: str | None = None
    plans: str | None = None

    @property
    def labels(self) -> Labels:
        """Which integers are which structure."""
        return Labels(self.structures, self.mask_strategy)


def load_lineages(paths: DatasetPaths) -> tuple[dict[int, Lineage], int | None]:
    """All lineages by number, and the number of the one that is being trained."""
    lineages: dict[int, Lineage] = {}
    current: int | None = None
    for entry in Journal(paths.lineages).entries():
        number = entry["number"]
        if entry["event"] == "opened":
            lineages[number] = Lineage(number=number, **entry["lineage"])
        elif entry["event"] == "planned":
            lineages[number] = replace(lineages[number], plans=entry["plans"])
        if entry["event"] in ("opened", "resumed"):
            current = number
    return lineages, current


def current_lineage(paths: DatasetPaths) -> Lineage | None:
    """The lineage that is being trained; None before the first iteration."""
    lineages, current = load_lineages(paths)
    return None if current is None else lineages[current]


def open_lineage(
    paths: DatasetPaths,
    why: str,
    structures: Sequence[str],
    mask_strategy: MaskStrategy,
    plans_name: str,
    configuration: str,
    base: str | None = None,
) -> Lineage:
    """Begin a lineage; one that was opened and never planned is begun again under its number."""
    lineages, current = load_lineages(paths)
    if current is not None and lineages[current].plans is None:
        number = current
    else:
        number = max(lineages, default=0) + 1
    lineage = Lineage(number, now(), why, list(structures), mask_strategy, plans_name, configuration, base)
    content = {k: v for k, v in asdict(lineage).items() if k not in ("number", "plans")}
    Journal(paths.lineages).append({"event": "opened", "number": number, "lineage": content})
    return lineage


def resume_lineage(paths: DatasetPaths, number: int, why: str) -> None:
    """Go on with an older lineage, whose model was put back into use."""
    lineages, current = load_lineages(paths)
    if number in lineages and number != current:
        Journal(paths.lineages).append({"event": "resumed", "number": number, "at": now(), "why": why})


def keep_plans(paths: DatasetPaths, lineage: Lineage, contents: Mapping[str, Any]) -> Lineage:
    """Freeze the plans of a lineage and register its structures.

    Parameters
    ----------
    contents
        File name → content of plans, fingerprint and ``dataset.json``.
    """
    folder = paths.lineage(lineage.number)
    if folder.is_dir() and lineage.plans is None:
        # A run was killed between the files and the record; nothing was made under these plans.
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with whole_folder(folder) as temporary:
        for name, content in contents.items():
            write_json(temporary / name, content)
    register(paths.labels, lineage.structures, lineage.number)
    digest = _digest(folder)
    Journal(paths.lineages).append({"event": "planned", "number": lineage.number, "plans": digest})
    return replace(lineage, plans=digest)


def plans_of(paths: DatasetPaths, lineage: Lineage) -> Path:
    """The folder with the frozen plans of a lineage.

    Raises
    ------
    UserDataError
        Where they are not what was frozen.
    """
    folder = paths.lineage(lineage.number)
    if not folder.is_dir() or _digest(folder) != lineage.plans:
        raise UserDataError(
            f"{folder} does not hold the plans that lineage {lineage.number} was frozen with; restore it "
            "from the backup, or begin anew with `iterseg plan --new-lineage`"
        )
    return folder


def _digest(folder: Path) -> str:
    return digest_of({file.name: read_json(file) for file in sorted(folder.glob("*.json"))})
