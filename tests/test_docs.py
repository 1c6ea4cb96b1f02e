"""The pages say what is so: links lead somewhere, commands and keys exist, references follow the code."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
import typer
import yaml
from dicom_factory import ball, grid_for, write_rois, write_segments, write_series
from pydantic import BaseModel

from flows.cli import app
from tasks.settings.cluster import ClusterSettings
from tasks.settings.dataset import DatasetSettings, RoiPatterns
from tasks.settings.notifications import NotificationSettings
from tasks.settings.simulation import Simulation

ROOT = Path(__file__).parents[1]
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
PAGES = [ROOT / name for name in LISTED.stdout.split() if (ROOT / name).exists()]
OWN = [page for page in PAGES if page.parts[len(ROOT.parts)] != "CHANGELOG.md"]
"""But what the changelog tells of was so once."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`((?:flows|tasks|tests|deployments|config|docs|data/examples)/[\w./-]+)`")
OF_A_USER = {"config/notifications.yaml"}
MODELS: tuple[type[BaseModel], ...] = (DatasetSettings, ClusterSettings, NotificationSettings, Simulation)
ids = [str(page.relative_to(ROOT)) for page in OWN]


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in CODE.findall(page.read_text()) if kind == language]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", OWN, ids=ids)
def test_files_of_the_checkout_that_are_named_are_there(page: Path) -> None:
    for name in NAMED.findall(page.read_text()):
        assert (ROOT / name).exists() or name in OF_A_USER, name


@pytest.mark.parametrize("name", reference.PAGES)
def test_what_follows_from_the_code_was_made_again(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == reference.PAGES[name](), "make docs"


@pytest.mark.parametrize("page", OWN, ids=ids)
def test_yaml_of_a_page_is_taken_by_the_program(page: Path) -> None:
    for block in blocks(page, "yaml"):
        content = yaml.safe_load(block)
        taken = [m for m in MODELS if set(content) <= set(m.model_fields)]
        # Names of structures are anybody's: capitals tell them from keys, of which one may be misspelt.
        if not taken and all(name[0].isupper() for name in content):
            taken = [RoiPatterns]
        assert taken, f"no file of config/ has all of {sorted(content)}"
        taken[0].model_validate(content)


@pytest.mark.parametrize("page", OWN, ids=ids)
def test_python_of_a_page_imports_what_there_is(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.parametrize("page", OWN, ids=ids)
def test_commands_and_their_options_exist(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    for name, words in said_commands(page.read_text()):
        assert name in group.commands, f"iterseg {name}"
        known = {o for p in group.commands[name].params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", words)) <= known, f"iterseg {name} {words}"


def test_the_python_of_the_api_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (6, 20, 24)
    tumour = ball(shape, (3, 8, 8), 4)
    series = write_series(tmp_path / "ct", grid=grid_for(shape))
    write_rois(tmp_path / "rt.dcm", series, {"GTV": tumour})
    write_segments(tmp_path / "seg.dcm", series, tumour.astype(int), ["GTV"])
    monkeypatch.chdir(tmp_path)
    said: dict[str, Any] = {}
    needs_a_model, *others = blocks(ROOT / "docs" / "api.md", "python")
    assert "Predictor" in needs_a_model
    for block in others:
        exec(block, said)
    assert (said["contoured"]["GTV"] == tumour).all()
    assert (said["structures"]["GTV"] == tumour).all()
    again = {
        roi.name: said["rasterise"](roi, said["volume"].grid) for roi in said["read_rois"](Path("out.rt.dcm"))
    }
    assert (again["GTV"] == tumour).all()


def said_commands(text: str) -> Iterator[tuple[str, str]]:
    """Each `iterseg NAME …` in code, to the end of its line or of its span."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line for _, code in CODE.findall(text) for line in code.splitlines()]
    lines += [line for line in text.splitlines() if line.startswith("    ")]
    for piece in [*spans, *lines]:
        yield from re.findall(r"(?:^|[\s|(;&])iterseg ([a-z]+)([^|;&#]*)", f" {piece}")


@pytest.mark.parametrize("page", OWN, ids=ids)
def test_targets_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for name in re.findall(r"`((?:flows|tasks|tests|deployments|docs)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


def test_every_key_is_explained() -> None:
    for file, model in reference.FILES.items():
        for inner in [model, *all_models(model)]:
            missing = set(inner.model_fields) - set(reference.described(inner))
            assert not missing, f"{file}: {inner.__name__} says nothing of {missing}"


def all_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for _, inner in reference._inner(model):
        yield inner
        yield from all_models(inner)


def test_the_environment_of_conda_takes_its_packages_from_the_locks() -> None:
    text = (ROOT / "environment.yml").read_text()
    assert yaml.safe_load(text)["dependencies"] == ["python=3.11", "pip"]
    assert "make install VENV=$CONDA_PREFIX" in text
    planned = subprocess.run(
        ["make", "-n", "install", "VENV=/opt/conda/envs/iterseg", "TORCH=cpu"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "VENV=/opt/conda/envs/iterseg TORCH=cpu bash deployments/install.sh" in planned.stdout


def test_what_was_installed_is_remembered(tmp_path: Path) -> None:
    """`make server` on a machine without a GPU must not bring torch back for CPUs."""
    for name in ("Makefile", "pyproject.toml", *(lock.name for lock in ROOT.glob("*.lock"))):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "deployments").mkdir()
    (tmp_path / "deployments" / "install.sh").write_text("")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed-cuda").touch()
    planned = subprocess.run(
        ["make", "-n", "server"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "install.sh" not in planned.stdout
    other = ["make", "-n", "install", "TORCH=cpu"]
    planned = subprocess.run(other, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "TORCH=cpu bash deployments/install.sh" in planned.stdout


def test_each_row_of_the_bench_says_how_far_it_is_from_what_bounds_it() -> None:
    rows = json.loads((ROOT / "tests" / "bench" / "report.json").read_text())["rows"]
    assert rows
    assert [r["name"] for r in rows if r["alone"] not in r["runs"] and not r.get("least_mb")] == []


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_the_build_that_was_taken_is_what_is_remembered(tmp_path: Path, torch: str) -> None:
    """Not `auto`: an upgrade on a login node would take the one for CPUs."""
    python = tmp_path / "deployments" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    script = tmp_path / "deployments" / "install.sh"
    script.write_text((ROOT / "deployments" / "install.sh").read_text())
    venv = tmp_path / "deployments" / ".venv"
    (venv / ".installed-auto").touch()
    env = {**os.environ, "PYTHON": str(python), "VENV": str(venv), "TORCH": torch}
    subprocess.run(["bash", str(script)], env=env, check=True, capture_output=True)
    assert [p.name for p in venv.glob(".installed-*")] == [f".installed-{torch}"]
