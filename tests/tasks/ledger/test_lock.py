"""One run at a time for a dataset; a run that died does not keep the others out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tasks.errors import UserDataError
from tasks.ledger.lock import dataset_lock, held_for_h, working_on


def hold(folder: Path, host: str, pid: int) -> None:
    (folder / "lock.json").write_text(json.dumps({"host": host, "pid": pid, "since": "now"}))


def test_the_same_process_enters_again_and_the_last_one_out_unlocks(tmp_path: Path) -> None:
    with dataset_lock(tmp_path):
        with dataset_lock(tmp_path):
            pass
        assert (tmp_path / "lock.json").exists()
    assert not (tmp_path / "lock.json").exists()


def test_another_process_is_kept_out(tmp_path: Path) -> None:
    with dataset_lock(tmp_path):
        code = (
            "import sys; from pathlib import Path; from tasks.ledger.lock import dataset_lock\n"
            "with dataset_lock(Path(sys.argv[1])): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert done.returncode != 0
    assert f"process {os.getpid()}" in done.stderr


def test_a_lock_of_another_host_is_not_ours_to_judge(tmp_path: Path) -> None:
    hold(tmp_path, "node17", 1)
    with pytest.raises(UserDataError, match="process 1 on node17"), dataset_lock(tmp_path):
        pass


def test_what_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    hold(tmp_path, socket.gethostname(), gone.pid)
    with dataset_lock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.json").exists()


def test_a_number_that_another_process_has_now_is_not_its_holder(tmp_path: Path) -> None:
    """After a reboot, or after some days."""
    for other in ({"boot": "another"}, {"started": "1"}):
        lock = {"host": socket.gethostname(), "pid": os.getpid(), "since": "now", **other}
        (tmp_path / "lock.json").write_text(json.dumps(lock))
        with dataset_lock(tmp_path, {"flow_run": "mine"}) as killed:
            assert killed == lock
            assert json.loads((tmp_path / "lock.json").read_text())["flow_run"] == "mine"


def test_how_long_somebody_else_holds_it_is_known(tmp_path: Path) -> None:
    assert held_for_h(tmp_path) == 0
    assert working_on(tmp_path) is None
    with dataset_lock(tmp_path):
        assert held_for_h(tmp_path) == 0
    since = (datetime.now() - timedelta(hours=30)).isoformat(timespec="seconds")
    (tmp_path / "lock.json").write_text(json.dumps({"host": "node17", "pid": 1, "since": since}))
    assert 29 < held_for_h(tmp_path) < 31
    assert working_on(tmp_path) == f"process 1 on node17, since {since}"


def test_a_damaged_lock_is_left_to_a_person(tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text("")
    with pytest.raises(UserDataError, match=r"remove .*lock\.json"), dataset_lock(tmp_path):
        pass
