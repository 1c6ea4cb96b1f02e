"""One run at a time for a dataset; a run that died does not keep the others out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests_support import wait_until

import tasks.ledger.lock
from tasks.errors import BusyError, UserDataError
from tasks.ledger.files import remove_temporaries
from tasks.ledger.lock import dataset_lock, held_for_h, is_lost, leave_to_the_next, working_on


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


def test_a_process_that_has_ended_is_gone_although_nobody_asked_after_it(tmp_path: Path) -> None:
    """Its parent, such as the first process of a container, does not reap it."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    try:
        wait_until(lambda: tasks.ledger.lock._stat(gone.pid)[:1] == ["Z"], 30)
        hold(tmp_path, socket.gethostname(), gone.pid)
        assert working_on(tmp_path) is None
        with dataset_lock(tmp_path):
            pass
    finally:
        gone.wait()


def test_who_waits_for_a_lock_is_told_so_also_where_its_holder_clears_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(tmp_path, "node17", 1)
    monkeypatch.setattr(tasks.ledger.lock, "sync", lambda _: remove_temporaries(tmp_path))
    with pytest.raises(BusyError, match="process 1 on node17"), dataset_lock(tmp_path):
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


@pytest.mark.parametrize(
    ("theirs", "ours", "taken"),
    [("a", "a", True), ("a", "b", False), (None, None, False), ("a", None, False), ("", "a", True)],
)
def test_another_machine_of_the_same_name_is_not_this_one_before_it_was_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str | None, ours: str | None, taken: bool
) -> None:
    """It trains, and its jobs would be cancelled. Where no machine has an id a person decides."""
    monkeypatch.setattr(tasks.ledger.lock, "_machine", lambda: ours)
    lock = {"host": socket.gethostname(), "pid": 1, "since": "now", "boot": "another", "machine": theirs}
    if theirs == "":
        del lock["machine"]  # as it was written before ids were
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    if taken:
        with dataset_lock(tmp_path):
            pass
    else:
        with pytest.raises(BusyError, match="if that host is down for good"), dataset_lock(tmp_path):
            pass


@pytest.mark.parametrize(("namespace", "taken"), [("pid:[1]", False), (None, True)])
def test_of_another_container_of_this_host_nothing_is_known(
    tmp_path: Path, namespace: str | None, taken: bool
) -> None:
    """There its number is another process's, or nobody's."""
    gone = tasks.ledger.lock._this_process() | {"pid": 2**22 + 1}
    if namespace:
        gone["namespace"] = namespace
    (tmp_path / "lock.json").write_text(json.dumps({**gone, "since": "now"}))
    if taken:
        with dataset_lock(tmp_path):
            pass
    else:
        with pytest.raises(UserDataError), dataset_lock(tmp_path):
            pass
        since = (datetime.now(UTC) - timedelta(hours=40)).isoformat(timespec="seconds")
        (tmp_path / "lock.json").write_text(json.dumps({**gone, "since": since}))
        assert is_lost(tmp_path, 36), "in the end somebody hears of it"


def test_what_a_dead_run_left_may_be_left_to_the_next(tmp_path: Path) -> None:
    """Where its jobs could not be cancelled now."""
    gone = {"host": socket.gethostname(), "pid": os.getpid(), "started": "1", "jobs": True}
    (tmp_path / "lock.json").write_text(json.dumps(gone))
    for _ in range(2):
        with dataset_lock(tmp_path) as killed:
            assert killed == gone
            leave_to_the_next(tmp_path, killed)
    with dataset_lock(tmp_path) as killed:
        assert killed == gone
    with dataset_lock(tmp_path) as killed:
        assert killed is None


def test_only_a_run_of_another_machine_is_taken_for_lost(tmp_path: Path) -> None:
    """A first training takes days, and of one of this host it is known that it lives."""
    assert not is_lost(tmp_path, 1)
    since = (datetime.now(UTC) - timedelta(hours=40)).isoformat(timespec="seconds")
    for host, lost in (("node17", True), (socket.gethostname(), False)):
        lock = {"host": host, "pid": os.getppid(), "since": since}
        (tmp_path / "lock.json").write_text(json.dumps(lock))
        assert is_lost(tmp_path, 36) is lost
        assert not is_lost(tmp_path, 50)


def test_how_long_somebody_else_holds_it_is_known(tmp_path: Path) -> None:
    assert held_for_h(tmp_path) == 0
    assert working_on(tmp_path) is None
    with dataset_lock(tmp_path):
        assert held_for_h(tmp_path) == 0
    for clock in (None, UTC, timezone(timedelta(hours=9))):
        since = (datetime.now(clock) - timedelta(hours=30)).isoformat(timespec="seconds")
        (tmp_path / "lock.json").write_text(json.dumps({"host": "node17", "pid": 1, "since": since}))
        assert 29 < held_for_h(tmp_path) < 31
    assert working_on(tmp_path) == f"process 1 on node17, since {since}"


def test_a_damaged_lock_is_left_to_a_person(tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text("")
    with pytest.raises(UserDataError, match=r"remove .*lock\.json"), dataset_lock(tmp_path):
        pass


def test_of_many_that_find_a_dead_lock_one_takes_it_over(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = (
        "import sys, time; from pathlib import Path; from tasks.ledger.lock import dataset_lock\n"
        "sys.stdin.readline()\n"
        "with dataset_lock(Path(sys.argv[1])):\n"
        "    (Path(sys.argv[1]) / f'held-{time.monotonic_ns()}').touch(); print('in', flush=True)\n"
        "    sys.stdin.readline()"
    )
    for _ in range(3):
        hold(tmp_path, socket.gethostname(), gone.pid)
        command = [sys.executable, "-c", code, str(tmp_path)]
        pipe = subprocess.PIPE
        many = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            for _ in range(6)
        ]
        for one in many:  # all have imported what they need by then
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        said = []
        for one in many:
            assert one.stdout is not None
            said.append(one.stdout.readline())
        assert said.count("in\n") == 1
        for one in many:
            one.communicate("\n")
        assert not (tmp_path / "lock.json").exists()


def test_a_live_lock_that_came_in_between_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever read the dead one may come late: another has taken its place by then."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    hold(tmp_path, socket.gethostname(), gone.pid)
    is_gone = tasks.ledger.lock._is_gone

    def slowly(holder: dict[str, Any]) -> bool:
        found = is_gone(holder)
        hold(tmp_path, "node17", 1)
        return found

    monkeypatch.setattr("tasks.ledger.lock._is_gone", slowly)
    with pytest.raises(UserDataError, match="just begun"), dataset_lock(tmp_path):
        pass
    assert json.loads((tmp_path / "lock.json").read_text())["host"] == "node17"


def test_a_lock_that_a_person_replaced_is_not_removed(tmp_path: Path) -> None:
    with dataset_lock(tmp_path):
        hold(tmp_path, "node17", 1)
    assert (tmp_path / "lock.json").exists()


def test_a_lock_is_on_the_disk_before_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a power cut has emptied is nobody's to take over."""
    flushed: list[tuple[bool, str]] = []

    def sync(path: Path) -> None:
        flushed.append(((tmp_path / "lock.json").exists(), path.read_text() if path.is_file() else "names"))

    monkeypatch.setattr(tasks.ledger.lock, "sync", sync)
    with dataset_lock(tmp_path):
        (content, names) = flushed
    assert (content[0], "pid" in content[1]) == (False, True)
    assert names == (True, "names")


def test_a_lock_of_ones_own_that_nobody_works_by_is_taken_again(tmp_path: Path) -> None:
    """NFS may say that a link was not made which was, and a receiver lives for weeks."""
    with dataset_lock(tmp_path):
        left = (tmp_path / "lock.json").read_text()
    (tmp_path / "lock.json").write_text(left)
    assert held_for_h(tmp_path) == 0
    with dataset_lock(tmp_path) as killed:
        assert killed is None, "there are no jobs of another to clear"
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.json").exists()
