"""How a command ends: with one line of what is wrong and what to do, whatever it was that went wrong."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from predicted_lab import a_model

import flows.command
from flows.command import checked, run_flow
from flows.receive import Listening, _ingest, receive
from flows.status import models_of
from tasks.dicom.receiver import Address
from tasks.errors import UserDataError
from tasks.ledger.inbox import Inbox
from tasks.ledger.models import save_model
from tasks.ledger.paths import DatasetPaths


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server: what a flow raises is what matters here."""
    monkeypatch.setattr("tasks.processes.embedded_server.ensure_prefect_api", lambda: None)
    monkeypatch.setattr(flows.command, "_check", lambda *_: None)


def answered(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://127.0.0.1:9/api")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(code, request=request))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            httpx.ConnectError("refused"),
            1,
            "Prefect's server does not answer any more",
        ),
        (answered(401), 2, "refuses us; set PREFECT_API_AUTH_STRING as the server has it"),
        (answered(503), 1, "Prefect's server answers 503 now"),
        (OSError(28, "No space left on device"), 1, "No space left on device. Mend it and run"),
        (KeyboardInterrupt(), 1, "interrupted; run the command again"),
    ],
)
def test_what_is_nobodys_mistake_is_a_line_too(
    served: None, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    def flow() -> dict[str, Any]:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_flow("D", flow, as_json=False, verbose=False)
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said


@pytest.mark.parametrize(("verbose", "heard"), [(False, False), (True, True)])
def test_what_a_library_logs_of_a_peer_is_heard_by_who_asks_for_it(
    served: None, caplog: pytest.LogCaptureFixture, verbose: bool, heard: bool
) -> None:
    """Our own error says it once, with what to do."""
    logger = logging.getLogger("pynetdicom.transport")
    parent = logging.getLogger("pynetdicom")
    before = parent.level
    parent.setLevel(logging.NOTSET)  # as a new process has it

    def flow() -> dict[str, Any]:
        logger.error("Connection refused")
        raise UserDataError("cannot be reached")

    try:
        with pytest.raises(SystemExit):
            run_flow("D", flow, as_json=False, verbose=verbose)
        assert ("Connection refused" in caplog.text) is heard
    finally:
        parent.setLevel(before)


def test_a_fault_of_ours_keeps_its_traceback(served: None) -> None:
    with pytest.raises(ZeroDivisionError):
        run_flow("D", lambda: {"x": 1 // 0}, as_json=False, verbose=False)


def test_what_was_done_before_a_failure_is_told_with_it(
    served: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def flow() -> dict[str, Any]:
        error = UserDataError("not all are where people look")
        error.report = {"stage": "predict", "cases": [{"case_id": "case1"}]}
        raise error

    with pytest.raises(SystemExit):
        run_flow("D", flow, as_json=True, verbose=False)
    said = json.loads(capsys.readouterr().out)
    assert (said["error"], said["cases"]) == ("UserDataError", [{"case_id": "case1"}])


def test_a_folder_that_may_not_be_read_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def look(_: Path) -> str:
        raise PermissionError(13, "Permission denied", "/root/x")

    with pytest.raises(SystemExit):
        checked(look, Path("/root/x"), as_json=False)
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("error", [httpx.ConnectError("away"), UserDataError("away"), OSError("away")])
def test_a_receiver_goes_on_whatever_becomes_of_an_ingest(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A PACS must be able to send while Prefect's server starts anew."""

    def ingest(_: str) -> dict[str, Any]:
        raise error

    monkeypatch.setattr("flows.receive.ingest", ingest)
    said: list[str] = []
    assert not _ingest("D", said.append)
    assert said[0].startswith("not ingested yet: ")


def test_a_receiver_goes_on_where_the_inbox_cannot_be_looked_at_for_a_moment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends meanwhile would be cut off, and have to send all of it again."""
    looks: list[str] = []

    def held(_: Inbox) -> dict[str, int]:
        looks.append("look")
        if len(looks) == 1:
            raise OSError(errno.ESTALE, "Stale file handle", "/a/path")
        return {}

    class Thrice(Event):
        def wait(self, timeout: float | None = None) -> bool:
            return len(looks) == 3

    monkeypatch.setattr(Inbox, "held", held)
    said: list[str] = []
    address = Address("127.0.0.1", 0, "ITERSEG", ["PACS"])
    receive(Listening("D", address, quiet_s=0, deidentify=False, ingest=False), said.append, Thrice())
    assert said[1:] == ["the inbox cannot be looked at now: Stale file handle"]


def test_a_model_from_elsewhere_is_listed_before_anything_was_delivered(home: Path) -> None:
    paths = DatasetPaths.of("D")
    save_model(paths, a_model(paths, ["GTV"]))
    assert [row["model"] for row in models_of("D")["models"]] == ["2026-11-20"]
