"""What the UI shows besides runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.shown import url_of

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
