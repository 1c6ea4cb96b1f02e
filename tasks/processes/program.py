"""Start a module of this project as a program, hear its progress, and never let it outlive its parent.

The program gets a JSON file with its job. Lines on its standard output that begin with
:data:`MARK` are messages in JSON; everything else it prints goes to its log.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

from tasks.errors import ConfigError, ExternalToolError, IterSegError, UserDataError
from tasks.processes.lifeline import PARENT, die_with_parent

MARK = "@iterseg "
USER_ERROR_EXIT = 3
LAST_WORDS_LINES = 1

JOB_ENDS_AT = "ITERSEG_JOB_ENDS_AT"
"""The environment variable with the time, in seconds since the epoch, at which a program is killed."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""All of them, always: where one says less, torch takes that for all (at::internal::init_num_threads)."""

Message = dict[str, Any]

WAIT_FOR_JOB_S = 0.02

_RUNNING: set[Path] = set()
"""The job files of programs that this process has started."""
_EARLY: list[_Program] = []
"""Programs that wait for their job."""


def on_threads(count: int) -> dict[str, str]:
    """The environment of a program that computes on so many CPU threads, whatever its parent's says.

    Threads that wait for each other sleep: spinning saves a fifth of an epoch of a small network on an idle
    machine, and makes it take many times as long where another process is busy (tests/bench/report.md).
    """
    waiting = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    return {**dict.fromkeys(THREADS, str(count)), **waiting}


@contextmanager
def started_early(
    module: str, environment: Mapping[str, str] | None = None, late: Collection[str] = ()
) -> Iterator[None]:
    """Start a program before its job is known: its imports, of torch above all, take seconds.

    The next :func:`run_program` of the same module and environment hands it its job; one that gets none
    is ended with the block.

    Parameters
    ----------
    late
        Variables that may come with the job: nothing that the program imports early reads them.
    """
    if any(known.fits(module, environment or {}) for known in _EARLY):
        yield
        return
    program = _start(module, _new_job_file(), environment or {}, frozenset(late))
    _EARLY.append(program)
    try:
        yield
    finally:
        if _taken(program):  # nobody has: one that has its job goes on, and so does its folder
            if program.process.poll() is None:
                _kill_group(program.process)
            assert program.process.stdout is not None
            program.process.stdout.close()
            shutil.rmtree(program.job_file.parent, ignore_errors=True)


def run_program(
    module: str,
    job: Mapping[str, Any],
    log: Path,
    environment: Mapping[str, str] | None = None,
    on_message: Callable[[Message], None] = lambda _: None,
) -> None:
    """Run ``python -m <module> <job file>`` to its end.

    Parameters
    ----------
    module
        A module that calls :func:`serve`.
    job
        What it is to do; plain JSON content.
    log
        Where its output is appended.
    environment
        Added to this process's environment.
    on_message
        Called with every message, while it runs.

    Raises
    ------
    UserDataError, ConfigError
        Raised by the program and told on.
    OSError
        The disk that it writes to is full or gone (:func:`fail_for_the_disk`).
    ExternalToolError
        It ended with another status than 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    given = environment or {}
    program = _early(module, given) or _start(module, _new_job_file(), given)
    try:
        try:
            _give(program, job, {name: value for name, value in given.items() if name in program.late})
        except BaseException:
            _kill_group(program.process)  # it would wait for its job as long as this process lives
            raise
        _listen(module, program, log, on_message)
    finally:
        shutil.rmtree(program.job_file.parent, ignore_errors=True)


@dataclass(frozen=True)
class _Program:
    process: subprocess.Popen[str]
    job_file: Path
    module: str
    environment: Mapping[str, str]
    late: frozenset[str] = frozenset()

    def fits(self, module: str, environment: Mapping[str, str]) -> bool:
        """Whether it can do with what comes with the job, and lives."""
        at_once = {name: value for name, value in environment.items() if name not in self.late}
        return (module, at_once) == (self.module, self.environment) and self.process.poll() is None


def _early(module: str, environment: Mapping[str, str]) -> _Program | None:
    """One that waits for such a job, which no other gets now."""
    return next((known for known in list(_EARLY) if known.fits(module, environment) and _taken(known)), None)


def _taken(program: _Program) -> bool:
    """Take a program from those that wait; False where another thread has."""
    try:
        _EARLY.remove(program)
    except ValueError:
        return False
    return True


def _new_job_file() -> Path:
    """In a folder of its own, that goes with the program."""
    return Path(tempfile.mkdtemp(prefix="iterseg-")) / "job.json"


def _start(
    module: str, job_file: Path, environment: Mapping[str, str], late: frozenset[str] = frozenset()
) -> _Program:
    process = subprocess.Popen(
        # -P: nothing comes from the folder in which somebody called `iterseg`, such as a `tasks.py` there.
        [sys.executable, "-P", "-u", "-m", module, str(job_file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment, PARENT: str(os.getpid())},
        text=True,
        errors="replace",
        start_new_session=True,
    )
    return _Program(process, job_file, module, environment, late)


def _give(program: _Program, job: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    unnamed = program.job_file.with_suffix(".part")
    unnamed.write_text(json.dumps({"job": job, "environment": environment}), encoding="utf-8")
    unnamed.rename(program.job_file)  # the program waits for the name


def _listen(module: str, program: _Program, log: Path, on_message: Callable[[Message], None]) -> None:
    process = program.process
    Thread(target=_end_group_with, args=(process,), daemon=True).start()
    _RUNNING.add(program.job_file)
    error: Message | None = None
    last: deque[str] = deque(maxlen=LAST_WORDS_LINES)
    try:
        assert process.stdout is not None
        with log.open("ab", buffering=0) as stream, process.stdout as output:
            for line in output:
                with suppress(OSError):  # a disk that is full costs lines of the log, not the work
                    stream.write(line.encode())
                if (message := _message_in(line)) is not None:
                    if "done" in message:
                        return  # the teardown of torch takes half a second, and nothing hangs on it
                    error = message.get("error", error)
                    on_message(message)
                elif line.strip():
                    last.append(line.rstrip())
        returncode = process.wait()
    finally:
        _kill_group(process)
        _RUNNING.discard(program.job_file)
    if returncode == USER_ERROR_EXIT and error is not None:
        if error["kind"] == "OSError":
            raise OSError(error["errno"], f"{error['message']} (log: {log})")
        kind = {"ConfigError": ConfigError}.get(error["kind"], UserDataError)
        raise kind(error["message"])
    if returncode != 0:
        raise ExternalToolError(f"python -m {module}", returncode, log, "\n".join(last))


def _message_in(line: str) -> Message | None:
    """What was told in a line; None of any other line, and of one that something else printed into."""
    with suppress(ValueError):
        message = json.loads(line.removeprefix(MARK)) if line.startswith(MARK) else None
        return message if isinstance(message, dict) else None
    return None


def ask_to_stop() -> None:
    """Ask the programs that this process has started to end soon, with what they did saved.

    Only those follow that look at :func:`asked_to_stop`. A file and no signal: one that comes while
    Python starts would kill it. Safe in a signal handler.
    """
    for job_file in tuple(_RUNNING):
        with suppress(FileNotFoundError):  # it has just ended
            _stop_file(job_file).touch()


def asked_to_stop() -> bool:
    """In a program: whether it shall end soon."""
    return _stop_file(sys.argv[1]).exists()


def _stop_file(job_file: str | Path) -> Path:
    return Path(f"{job_file}.stop")


def _end_group_with(process: subprocess.Popen[str]) -> None:
    """Kill what a program has started when it ends: it holds the pipe, and nobody would hear of the end."""
    with suppress(ChildProcessError, ProcessLookupError):
        # Not reaped yet, so that its number is nobody else's.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.killpg(process.pid, signal.SIGKILL)


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End the program and its own children, whatever state they are in."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def serve(work: Callable[[dict[str, Any]], None], warm_up: Callable[[], None] = lambda: None) -> None:
    """The ``main`` of a program: read the job, do it, end with a status that tells the kind.

    Parameters
    ----------
    warm_up
        What it may do before it knows its job.
    """
    die_with_parent()
    warm_up()
    while not Path(sys.argv[1]).exists():
        time.sleep(WAIT_FOR_JOB_S)
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ.update(given["environment"])
    try:
        work(given["job"])
        tell(done=True)
    except (UserDataError, ConfigError) as error:
        tell(error={"kind": type(error).__name__, "message": str(error)})
        sys.exit(USER_ERROR_EXIT)
    except IterSegError as error:
        print(error)
        sys.exit(1)
    except OSError as error:
        if error.errno is not None and not isinstance(error, FileNotFoundError | PermissionError):
            fail_for_the_disk(error)
        traceback.print_exc()
        sys.exit(1)
    except Exception:  # the traceback belongs in the log, the status says that it failed
        traceback.print_exc()
        sys.exit(1)


def fail_for_the_disk(error: OSError) -> NoReturn:
    """In a program: end, so that :func:`run_program` raises the same where the work was asked for."""
    traceback.print_exception(error)  # for the log: which file it was
    tell(error={"kind": "OSError", "message": error.strerror or str(error), "errno": error.errno})
    sys.exit(USER_ERROR_EXIT)


def tell(**message: Any) -> None:
    """Send a message to whoever started this program."""
    # In one piece: what a thread prints meanwhile must not come between a line and its end.
    sys.stdout.write(f"{MARK}{json.dumps(message)}\n")
    sys.stdout.flush()
