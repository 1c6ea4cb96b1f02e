"""What nobody needs to mend is tried again, and nothing else."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.retries import only_transient
from tasks.errors import TransientError, UserDataError


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TransientError("the server did not answer in time"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (UserDataError("mend it"), False),
        (KeyError("ours"), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
)
def test_a_hiccup_is_tried_again(error: BaseException | None, again: bool) -> None:
    def result(**_: Any) -> str:
        if error is not None:
            raise error
        return "done"

    state: Any = SimpleNamespace(result=result)
    nothing: Any = None
    assert only_transient(nothing, nothing, state) is again
