"""Files that are whole or not there: written to a temporary name, fsynced, replaced."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.errors import UserDataError

HASH_BLOCK_BYTES = 1 << 20
FLUSHES_AT_A_TIME = 16


def temporary_beside(path: Path) -> Path:
    """A new name in the same folder, so that a rename onto ``path`` is atomic."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write; on success it becomes ``path``, on failure nothing stays.

    The temporary name keeps the suffixes of ``path``, since some writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp{''.join(path.suffixes)}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder in ``parent``, gone at the end unless :func:`commit_folder` has named it."""
    parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(parent / "scratch")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_scratch(parent: Path) -> None:
    """Remove the temporary folders in ``parent`` that killed runs left; nobody may be filling one."""
    for left in parent.glob(".scratch.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def commit_folder(temporary: Path, path: Path) -> None:
    """Make a filled folder durable and give it its name, in one step."""
    # A disk takes many flushes at a time, and one after the other costs as much as the copy itself.
    with ThreadPoolExecutor(FLUSHES_AT_A_TIME) as pool:
        list(pool.map(sync, [temporary, *temporary.rglob("*")]))
    os.rename(temporary, path)
    sync(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it becomes ``path``, on failure nothing stays.

    If ``path`` came into being meanwhile it stays as it is and the new folder is dropped: what is
    addressed by content is the same whoever wrote it.
    """
    with scratch_folder(path.parent) as temporary:
        yield temporary
        try:
            commit_folder(temporary, path)
        except OSError:
            if not path.is_dir():
                raise


def look_again(folders: Iterable[Path]) -> None:
    """See what another machine has just made in some folders, those above first.

    A client of NFS believes for up to a minute that what it once looked for is not there; to open the folder
    makes it ask (nfs(5), close-to-open consistency).
    """
    for folder in folders:
        with suppress(OSError):  # nothing was made there, or it cannot be opened: whoever reads it says so
            os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


def json_files(folder: Path) -> list[Path]:
    """The JSON files of a folder in the order of their names, without those that are being written."""
    return sorted(folder.glob("[!.]*.json"))


def remove_temporaries(root: Path, older_than_s: float = 0.0) -> None:
    """Remove what killed writers left below a folder; nobody else may be writing there what is that old."""
    latest = time.time() - older_than_s
    for folder, folders, files in os.walk(root):  # `rglob` reads every folder twice
        left = [name for name in (*folders, *files) if name.startswith(".") and ".tmp" in name]
        for path in (Path(folder, name) for name in left):
            if older_than_s and _changed_at(path) > latest:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        folders[:] = [name for name in folders if name not in left]


def _changed_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # it has its name by now
        return math.inf


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, *, a_line_each: Collection[str] = ()) -> None:
    """Write JSON that a person can read, whole or not at all.

    Parameters
    ----------
    a_line_each
        Fields of ``content`` that are lists, whose items get a line each.
    """
    text = _as_text(content, a_line_each, escaped=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # names of files need not be UTF-8; escaped they come back as they were
        text = _as_text(content, a_line_each, escaped=True)
    write_text(path, text + "\n")


def _as_text(content: Any, a_line_each: Collection[str], *, escaped: bool) -> str:
    if not a_line_each:
        return json.dumps(content, indent=1, ensure_ascii=escaped)
    fields = []
    for key, value in content.items():
        if key in a_line_each:
            lines = ",\n  ".join(json.dumps(item, ensure_ascii=escaped) for item in value)
            text = f"[\n  {lines}\n ]" if lines else "[]"
        else:
            text = json.dumps(value, ensure_ascii=escaped)
        fields.append(f"{json.dumps(key, ensure_ascii=escaped)}: {text}")
    return "{\n " + ",\n ".join(fields) + "\n}"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    UserDataError
        Where it was damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # of JSON and of UTF-8
        raise damaged(path) from None


def damaged(path: Path) -> UserDataError:
    """What is raised of a file of ours that is not as it was written."""
    return UserDataError(f"{path} is damaged; restore it from the backup")


def replace_symlink(link: Path, target: Path) -> None:
    """Point ``link`` at ``target`` (relative, so that the data folder can move) in one step.

    Where that leads elsewhere, since the link lies in a folder that is itself one, from where both are.
    """
    link.parent.mkdir(parents=True, exist_ok=True)
    way = os.path.relpath(target, link.parent)
    if (link.parent.resolve() / way).resolve() != target.resolve():
        way = os.path.relpath(target.resolve(), link.parent.resolve())
    temporary = temporary_beside(link)
    temporary.symlink_to(way)
    os.replace(temporary, link)
    sync(link.parent)


def sha256_of_file(path: Path) -> str:
    """The hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def digest_of(content: Any) -> str:
    """A hex sha256 of plain content (JSON types), independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder; what a link points at was flushed when it was written."""
    if path.is_symlink():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
