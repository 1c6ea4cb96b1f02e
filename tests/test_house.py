"""The rules of the house that a machine can see."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tasks.dicom.reasons import WHAT_TO_DO, WHERE, Reason

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("flows/*.py"), *ROOT.glob("tasks/**/*.py"), *ROOT.glob("data/examples/*.py")])


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_imports_run_one_way() -> None:
    done = subprocess.run(
        [str(ROOT / ".venv/bin/lint-imports") if (ROOT / ".venv").exists() else "lint-imports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_module_has_its_layer() -> None:
    """What no layer names may import anything, and be imported by anybody."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {name for layer in layers for name in layer.split(" | ")}
    modules = {f"tasks.{file.stem}" for file in ROOT.glob("tasks/[!_]*.py")}
    rooms = {f"tasks.{file.parent.name}" for file in ROOT.glob("tasks/*/__init__.py")}
    assert named == {"flows", *modules, *rooms - {"tasks.shipped_config"}}


@pytest.mark.parametrize(
    "path",
    [
        "patient.dcm",
        "scan.nii.gz",
        "data/rawdata/D/x/1.dcm",
        "config/scan.nii",
        "data/results/D/latest",
        "a/B.DCM",
    ],
)
def test_patient_data_cannot_be_committed_by_accident(path: str) -> None:
    assert git("check-ignore", "--no-index", path).returncode == 0


@pytest.mark.parametrize("path", ["data/examples/x.nii.gz", "tests/data/a/x.dcm", "data/rawdata/README.md"])
def test_examples_can_be(path: str) -> None:
    assert git("check-ignore", "--no-index", path).returncode == 1


@pytest.mark.parametrize("lock", sorted(ROOT.glob("*.lock")), ids=lambda p: p.name)
def test_locks_hold_names_versions_and_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", block), block
        assert "--hash=sha256:" in block, block


@pytest.mark.parametrize("file", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_one_room(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 350, "is this still one thing?"
    assert ast.get_docstring(ast.parse(text)) or not text.strip(), "say what the module is for"


def test_there_is_no_utils() -> None:
    assert not [p for p in SOURCES if p.stem in ("utils", "helpers", "common", "misc")]


def test_every_reason_says_what_to_do() -> None:
    assert set(WHAT_TO_DO) == set(Reason)
    assert all(text.endswith(".") for text in WHAT_TO_DO.values())
    assert [reason for reasons in WHERE.values() for reason in reasons] == list(Reason), "docs/reasons.md"
