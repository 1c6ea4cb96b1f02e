"""The tree of errors, and that errors survive the way from a worker to the flow."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tasks.errors import (
    CaseRejected,
    ConfigError,
    ExternalToolError,
    IterSegError,
    TransientError,
    UserDataError,
)


@pytest.mark.parametrize(
    "error",
    [
        UserDataError("x"),
        ConfigError("x"),
        TransientError("x"),
        CaseRejected("overlap", "two share a voxel"),
        ExternalToolError("tool", 2, Path("log"), "last"),
    ],
)
def test_errors_cross_processes(error: IterSegError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (type(error), str(error), error.__dict__)


def test_what_prefect_keeps_of_an_error_holds_no_case() -> None:
    """It writes each failed flow's exception to its own home, where no withdrawal comes."""
    error = UserDataError("none can be used").with_report({"cases": ["c1"]})
    error.add_note("said once more")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.report, copy.__notes__) == ("none can be used", {}, ["said once more"])
    assert error.report == {"cases": ["c1"]}


def test_exit_codes() -> None:
    assert (UserDataError.exit_code, ConfigError.exit_code) == (1, 2)


def test_a_signal_is_named_as_one() -> None:
    assert "signal 9" in str(ExternalToolError("tool", -9, Path("log")))
