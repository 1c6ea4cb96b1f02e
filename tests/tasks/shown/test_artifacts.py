"""What the UI shows besides runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from prefect.logging import disable_run_logger

from tasks.shown.artifacts import artifact_key, progress_artifact, show_table, url_of


@pytest.mark.parametrize(
    "parts", [("fold-0", "PM_IASLC"), ("test-set-2026-11-23.2", "D"), ("progress", "predict", "a.b_C")]
)
def test_a_key_is_one_that_the_server_takes(parts: tuple[str, ...]) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", artifact_key(*parts))


LOG = Path("/lab/data/procdata/D/logs/jobs/iterseg D-7.err")


@pytest.mark.parametrize(
    ("logs_url", "url"),
    [
        (None, "file:///lab/data/procdata/D/logs/jobs/iterseg%20D-7.err"),
        (
            "https://hpc.example.org/fs/",
            "https://hpc.example.org/fs/lab/data/procdata/D/logs/jobs/iterseg%20D-7.err",
        ),
        (
            "https://hpc.example.org/show?file={path}&tail=1",
            "https://hpc.example.org/show?file=/lab/data/procdata/D/logs/jobs/iterseg%20D-7.err&tail=1",
        ),
    ],
)
def test_a_log_is_a_link(logs_url: str | None, url: str) -> None:
    assert url_of(LOG, logs_url) == url


def test_progress_is_one_artifact_and_a_server_that_is_away_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[tuple[str, float, str]] = []
    warned: list[str] = []

    def make(percent: float, key: str, description: str) -> str:
        said.append((key, percent, description))
        return "artifact"

    def update(artifact: str, progress: float, description: str) -> None:
        if progress == 50:
            raise ConnectionError("the server is away")
        said.append((artifact, progress, description))

    monkeypatch.setattr("tasks.shown.artifacts.create_progress_artifact", make)
    monkeypatch.setattr("tasks.shown.artifacts.update_progress_artifact", update)
    logger = SimpleNamespace(warning=lambda *words: warned.append(words[-1]))
    monkeypatch.setattr("tasks.shown.artifacts.get_run_logger", lambda: logger)
    show = progress_artifact("key")
    for percent in (0, 50, 100):
        show(percent, f"{percent} of 100")
    assert said == [("key", 0, "0 of 100"), ("artifact", 100, "100 of 100")]
    assert warned == ["ConnectionError"]


def test_a_server_that_is_silent_does_not_hold_up_what_it_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a training whose output waits meanwhile, with Prefect's own tries seven minutes an epoch."""
    now, asked = [1000.0], []

    def silent(*_: object, **__: object) -> None:
        asked.append(now[0])
        now[0] += 420.0
        raise httpx.ReadTimeout("")

    monkeypatch.setattr("tasks.shown.artifacts.create_progress_artifact", silent)
    monkeypatch.setattr("tasks.shown.artifacts.time", SimpleNamespace(monotonic=lambda: now[0]))
    show = progress_artifact("key")
    with disable_run_logger():
        for _ in range(150):  # epochs of 48 s, two hours
            show(1.0, "an epoch")
            now[0] += 48.0
    assert len(asked) == 2


def test_a_simulated_lab_shows_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would stand where the dataset's own is looked for."""
    monkeypatch.setattr("tasks.shown.artifacts.is_a_lab", lambda: True)
    monkeypatch.setattr(
        "tasks.shown.artifacts.create_progress_artifact", lambda *_, **__: pytest.fail("shown")
    )
    progress_artifact("key")(50, "half")


def test_a_table_that_cannot_be_shown_ends_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is restarted just then, and the night is not over."""
    warned: list[str] = []

    def away(**_: object) -> None:
        raise ConnectionError("the server is away")

    logger = SimpleNamespace(warning=lambda *words: warned.append(words[-1]))
    monkeypatch.setattr("tasks.shown.artifacts.create_table_artifact", away)
    monkeypatch.setattr("tasks.shown.artifacts.get_run_logger", lambda: logger)
    show_table("prepare", "D", [], "nothing")
    assert warned == ["ConnectionError"]
