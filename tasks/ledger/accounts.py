"""The account of a delivery: what became of each of its files, as plain text.

A file's row is one line. What the files of a series share stands once: of a CT with 500 slices it would
else be most of the account, which every command reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from tasks.errors import ConfigError
from tasks.ledger.files import damaged, read_json, write_json

VERSION = 2
"""Accounts of version 1, with a whole header in each row, are read too."""
INSTANCE = "sop_instance_uid"
"""The field of a header that no two files share."""

FileState = Literal["taken", "duplicate", "rejected", "ignored", "withdrawn"]


class FileRow(NamedTuple):
    """What became of one file of a delivery.

    ``path`` is relative to the snapshot for files that lie in it, and the source's otherwise; it may
    hold names and therefore stays in the raw data. ``header`` is :meth:`Header.as_json`. Of a file that
    was de-identified, ``sha256`` is what lies in the snapshot and ``source_sha256`` what came in.
    ``patient`` is the keyed hash of whose a file is that has no header here, where it says so.
    """

    path: str
    state: FileState
    reason: str | None
    detail: str
    sha256: str
    size_bytes: int
    header: dict[str, Any] | None
    source_sha256: str = ""
    patient: str = ""


def count_states(rows: Iterable[FileRow]) -> dict[str, int]:
    """How many files had which fate; the numbers add up to the files found, less those withdrawn since."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in ("taken", "duplicate", "rejected", "ignored")}


def count_reasons(rows: Iterable[FileRow]) -> dict[str, int]:
    """How many files were set aside for which reason."""
    return dict(sorted(Counter(row.reason for row in rows if row.reason).items()))


def write_account(path: Path, rows: Iterable[FileRow], about: Mapping[str, Any]) -> None:
    """Write rows in their order, whole or not at all, after what else is to be known of the delivery."""
    numbers: dict[str, int] = {}
    series: list[dict[str, Any]] = []
    files = []
    for row in rows:
        written: dict[str, Any] = {"path": row.path, "state": row.state}
        written |= {key: value for key in ("reason", "detail") if (value := getattr(row, key))}
        written |= {"sha256": row.sha256, "size_bytes": row.size_bytes}
        written |= {key: value for key in ("source_sha256", "patient") if (value := getattr(row, key))}
        if row.header is not None:
            shared = {key: value for key, value in row.header.items() if key != INSTANCE}
            number = numbers.setdefault(repr(shared), len(series))
            if number == len(series):
                series.append(shared)
            written |= {"series": number, INSTANCE: row.header[INSTANCE]}
        files.append(written)
    content = {"version": VERSION, **about, "series": series, "files": files}
    write_json(path, content, a_line_each=("series", "files"))


def read_account(path: Path) -> tuple[tuple[FileRow, ...], dict[str, Any]]:
    """The rows of an account in their order, and what else it says of the delivery.

    Raises
    ------
    UserDataError
        Where it was damaged.
    ConfigError
        Where a newer IterSeg has written it.
    """
    content = _content(path)
    try:
        version, files, series = content.pop("version"), content.pop("files"), content.pop("series", [])
        if version > VERSION:
            raise ConfigError(f"{path} was written by a newer IterSeg (version {version}); upgrade this one")
        rows = (FileRow(**row) for row in files) if version == 1 else (_row(row, series) for row in files)
        return tuple(rows), content
    except (AttributeError, LookupError, TypeError):
        raise damaged(path) from None


def _content(path: Path) -> Any:
    """By a parser that takes a third of the time: accounts are most of what a command reads."""
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:  # refuses names of files that are not UTF-8, too
        return read_json(path)


def _row(row: Mapping[str, Any], series: list[dict[str, Any]]) -> FileRow:
    header = {**series[row["series"]], INSTANCE: row[INSTANCE]} if "series" in row else None
    return FileRow(
        row["path"],
        row["state"],
        row.get("reason"),
        row.get("detail", ""),
        row["sha256"],
        row["size_bytes"],
        header,
        row.get("source_sha256", ""),
        row.get("patient", ""),
    )
