"""Programs: what they tell, how they fail, and that none outlives who started it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from tests_support import wait_until

from tasks.errors import ConfigError, ExternalToolError, UserDataError
from tasks.processes.program import MARK, ask_to_stop, run_program, started_early

PROGRAM = """
import errno, multiprocessing, os, subprocess, sys, time
from tasks.errors import ConfigError, UserDataError
from tasks.processes.program import MARK, asked_to_stop, fail_for_the_disk, serve, tell

def begin_a_worker():
    # As nnU-Net's augmentation does.
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    worker.start()
    return worker.pid

def work(job):
    print("working on", job["what"])
    tell(environment=os.environ.get("GIVEN"))
    match job["what"]:
        case "data": raise UserDataError("mend the data")
        case "config": raise ConfigError("mend the file")
        case "disk": fail_for_the_disk(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        case "stale": raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        case "missing": raise FileNotFoundError(errno.ENOENT, "no such file", "image.nii.gz")
        case "torn": print(MARK + '{"a": warning', flush=True)
        case "bug": raise RuntimeError("a bug")
        case "exit": os._exit(7)
        case "killed": os.kill(os.getpid(), 9)
        case "killed beside its workers":
            begin_a_worker()
            os.kill(os.getpid(), 9)
        case "killed beside a program":
            subprocess.Popen(["sleep", "60"])
            os.kill(os.getpid(), 9)
        case "workers":
            tell(pid=os.getpid(), worker=begin_a_worker())
            time.sleep(60)
        case "stoppable":
            tell(pid=os.getpid())
            while not asked_to_stop():
                time.sleep(0.01)
            tell(stopped=True)
        case "sleep":
            tell(pid=os.getpid())
            time.sleep(60)

serve(work, lambda: tell(warm=os.getpid()))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "a_test_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "a_test_program"


def test_messages_are_heard_and_the_rest_is_logged(program: str, tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    log = tmp_path / "logs" / "x.log"
    run_program(program, {"what": "nothing"}, log, {"GIVEN": "yes"}, heard.append)
    assert heard[1:] == [{"environment": "yes"}]
    assert "working on nothing" in log.read_text()


def test_a_line_that_something_else_printed_into_ends_nothing(program: str, tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    run_program(program, {"what": "torn"}, tmp_path / "log", {"GIVEN": "yes"}, heard.append)
    assert heard[1:] == [{"environment": "yes"}]


def test_what_is_told_is_one_piece() -> None:
    """What a thread prints meanwhile comes before or after it."""
    code = "import sys; from tasks.processes.program import tell\n"
    code += "class Out:\n def write(self, text): sys.stderr.write(repr(text))\n def flush(self): pass\n"
    code += "sys.stdout = Out(); tell(a=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == repr(f'{MARK}{{"a": 1}}\n')


def test_a_job_that_cannot_be_given_leaves_no_program_waiting(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def note(*arguments: Any, **options: Any) -> Any:
        begun.append(start(*arguments, **options))
        return begun[-1]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tasks.processes.program.subprocess.Popen", note)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        run_program(program, {"what": "sleep"}, tmp_path / "log")
    assert begun[0].returncode == -signal.SIGKILL
    begun[0].stdout.close()  # type: ignore[union-attr]


def test_nothing_is_imported_from_the_folder_that_the_command_was_called_in(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tasks.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(elsewhere)
    run_program(program, {"what": "nothing"}, tmp_path / "log")


@pytest.mark.parametrize(("what", "kind"), [("data", UserDataError), ("config", ConfigError)])
def test_a_users_mistake_stays_one(program: str, tmp_path: Path, what: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="^mend the"):
        run_program(program, {"what": what}, tmp_path / "log")


@pytest.mark.parametrize(("what", "number"), [("disk", errno.ENOSPC), ("stale", errno.ESTALE)])
def test_what_the_disk_says_is_said_where_the_work_was_asked_for(
    program: str, tmp_path: Path, what: str, number: int
) -> None:
    """There it is known what is tried again: a network file system hiccups."""
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        run_program(program, {"what": what}, tmp_path / "log")
    assert caught.value.errno == number


def test_a_file_that_is_not_there_is_no_hiccup_of_the_disk(program: str, tmp_path: Path) -> None:
    with pytest.raises(ExternalToolError, match="no such file"):
        run_program(program, {"what": "missing"}, tmp_path / "log")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("bug", "exit code 1"),
        ("exit", "exit code 7"),
        ("killed", "signal 9"),
        ("killed beside its workers", "signal 9"),  # which hold its output open
        ("killed beside a program", "signal 9"),
    ],
)
@pytest.mark.timeout(30)
def test_a_failure_names_command_status_and_log(program: str, tmp_path: Path, what: str, words: str) -> None:
    with pytest.raises(ExternalToolError, match=words) as caught:
        run_program(program, {"what": what}, tmp_path / "log")
    assert str(tmp_path / "log") in str(caught.value)


def test_a_disk_that_is_full_costs_lines_of_the_log_and_not_the_work(program: str) -> None:
    heard: list[dict[str, object]] = []
    run_program(program, {"what": "nothing"}, Path("/dev/full"), {"GIVEN": "yes"}, heard.append)
    assert heard[1:] == [{"environment": "yes"}]


def test_a_program_that_is_asked_to_stop_may_end_in_time(program: str, tmp_path: Path) -> None:
    """As Slurm's signal before the walltime does."""
    heard: list[dict[str, object]] = []

    def listen(message: dict[str, object]) -> None:
        heard.append(message)
        if "pid" in message:
            ask_to_stop()

    run_program(program, {"what": "stoppable"}, tmp_path / "log", on_message=listen)
    assert heard[-1] == {"stopped": True}
    ask_to_stop()  # nothing runs any more


def test_a_program_that_was_started_early_gets_its_job_and_no_other(program: str, tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    with started_early(program), started_early(program):
        time.sleep(1)
        run_program(program, {"what": "nothing"}, tmp_path / "log", {"GIVEN": "else"}, heard.append)
        other = heard[0]["warm"]
        run_program(program, {"what": "nothing"}, tmp_path / "log", None, heard.append)
        early = heard[2]["warm"]
        run_program(program, {"what": "nothing"}, tmp_path / "log", None, heard.append)
        late = heard[4]["warm"]
    assert other != early != late
    assert isinstance(early, int)
    assert isinstance(late, int)
    assert early < late


def test_what_is_known_late_comes_with_the_job(program: str, tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    with started_early(program, {"ALWAYS": "1"}, late=["GIVEN"]):
        run_program(program, {"what": "nothing"}, tmp_path / "log", {"ALWAYS": "2"}, heard.append)
        other = heard[0]["warm"]
        environment = {"ALWAYS": "1", "GIVEN": "late"}
        run_program(program, {"what": "nothing"}, tmp_path / "log", environment, heard.append)
    assert heard[3]["environment"] == "late"
    early = heard[2]["warm"]
    assert isinstance(early, int)
    assert isinstance(other, int)
    assert early < other, "the one with another environment was begun after it"


def test_one_that_has_its_job_outlasts_the_block_that_began_it(program: str, tmp_path: Path) -> None:
    """A worker that is told to end lets go of it; it can still be asked to stop, and saves."""
    heard: list[dict[str, object]] = []
    job = (program, {"what": "stoppable"}, tmp_path / "log", None, heard.append)
    runs = Thread(target=run_program, args=job, daemon=True)
    with started_early(program):
        runs.start()
        wait_until(lambda: any("pid" in message for message in heard), 30)
    ask_to_stop()
    runs.join(30)
    assert heard[-1] == {"stopped": True}
    ask_to_stop()


def waiting(program: str) -> psutil.Process:
    """The process that was started early; for a moment it still bears our own command line."""
    found: list[psutil.Process] = []

    def there() -> bool:
        found[:] = [p for p in psutil.Process().children() if program in p.cmdline()]
        return bool(found)

    wait_until(there, 10)
    return found[0]


def test_one_that_has_died_while_it_waited_gets_no_job(program: str, tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    with started_early(program):
        early = waiting(program)
        early.kill()
        wait_until(lambda: early.status() == psutil.STATUS_ZOMBIE, 10)
        run_program(program, {"what": "nothing"}, tmp_path / "log", None, heard.append)
    assert heard[0]["warm"] != early.pid


def test_a_program_that_gets_no_job_is_ended(program: str) -> None:
    with started_early(program):
        time.sleep(0.5)
        early = waiting(program)
    assert not early.is_running()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.parametrize(("what", "told"), [("sleep", "pid"), ("workers", "worker")])
def test_a_program_and_its_workers_die_with_its_parent(
    program: str, tmp_path: Path, what: str, told: str
) -> None:
    """A killed worker must not leave a training behind that writes the same checkpoints."""
    code = (
        "import sys; from pathlib import Path; from tasks.processes.program import run_program\n"
        f"run_program('a_test_program', {{'what': {what!r}}}, Path(sys.argv[1]), "
        f"on_message=lambda m: print(m.get({told!r}, ''), flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(next(line for line in parent.stdout if line.strip()))
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)
