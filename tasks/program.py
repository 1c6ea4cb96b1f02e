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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tasks.errors import ConfigError, ExternalToolError, IterSegError, UserDataError
from tasks.lifeline import PARENT, die_with_parent

MARK = "@iterseg "
USER_ERROR_EXIT = 3
LAST_WORDS_LINES = 1

NOT_INHERITED = {"MALLOC_TRIM_THRESHOLD_"}
"""Dask's nanny sets it to give memory back early. Training allocates and frees without end: with it an
epoch of the demo took 30 s on two cores, without it 15 s."""

JOB_ENDS_AT = "ITERSEG_JOB_ENDS_AT"
"""The environment variable with the time, in seconds since the epoch, at which a program is killed."""

Message = dict[str, Any]

WAIT_FOR_JOB_S = 0.02

_RUNNING: set[Path] = set()
"""The job files of programs that this process has started."""
_EARLY: dict[tuple[str, frozenset[tuple[str, str]]], _Program] = {}
"""Programs that wait for their job."""


@contextmanager
def started_early(module: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Start a program before its job is known: its imports, of torch above all, take seconds.

    The next :func:`run_program` of the same module and environment hands it its job; one that gets none
    is ended with the block.
    """
    key = _key(module, environment)
    if key in _EARLY:
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="iterseg-"))
    _EARLY[key] = _start(module, folder / "job.json", environment)
    try:
        yield
    finally:
        left = _EARLY.pop(key, None)
        if left is not None:
            _kill_group(left.process)
            assert left.process.stdout is not None
            left.process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


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
    with tempfile.TemporaryDirectory(prefix="iterseg-") as folder:
        program = _EARLY.pop(_key(module, environment), None)
        if program is None:
            program = _start(module, Path(folder) / "job.json", environment)
        _give(program, job)
        _listen(module, program, log, on_message)


@dataclass(frozen=True)
class _Program:
    process: subprocess.Popen[str]
    job_file: Path


def _key(module: str, environment: Mapping[str, str] | None) -> tuple[str, frozenset[tuple[str, str]]]:
    return module, frozenset((environment or {}).items())


def _start(module: str, job_file: Path, environment: Mapping[str, str] | None) -> _Program:
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", module, str(job_file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**inherited, **(environment or {}), PARENT: str(os.getpid())},
        text=True,
        errors="replace",
        start_new_session=True,
    )
    return _Program(process, job_file)


def _give(program: _Program, job: Mapping[str, Any]) -> None:
    unnamed = program.job_file.with_suffix(".part")
    unnamed.write_text(json.dumps(job), encoding="utf-8")
    unnamed.rename(program.job_file)  # the program waits for the name


def _listen(module: str, program: _Program, log: Path, on_message: Callable[[Message], None]) -> None:
    process = program.process
    _RUNNING.add(program.job_file)
    error: Message | None = None
    last: deque[str] = deque(maxlen=LAST_WORDS_LINES)
    try:
        assert process.stdout is not None
        with log.open("a", encoding="utf-8") as stream, process.stdout as output:
            for line in output:
                stream.write(line)
                stream.flush()
                if line.startswith(MARK):
                    message = json.loads(line[len(MARK) :])
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
            raise OSError(error["errno"], error["message"])
        kind = {"ConfigError": ConfigError}.get(error["kind"], UserDataError)
        raise kind(error["message"])
    if returncode != 0:
        raise ExternalToolError(f"python -m {module}", returncode, log, "\n".join(last))


def ask_to_stop() -> None:
    """Ask the programs that this process has started to end soon, with what they did saved.

    Only those follow that look at :func:`asked_to_stop`. A file and no signal: one that comes while
    Python starts would kill it. Safe in a signal handler.
    """
    for job_file in tuple(_RUNNING):
        _stop_file(job_file).touch()


def asked_to_stop() -> bool:
    """In a program: whether it shall end soon."""
    return _stop_file(sys.argv[1]).exists()


def _stop_file(job_file: str | Path) -> Path:
    return Path(f"{job_file}.stop")


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
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        work(job)
        tell(done=True)
    except (UserDataError, ConfigError) as error:
        tell(error={"kind": type(error).__name__, "message": str(error)})
        sys.exit(USER_ERROR_EXIT)
    except IterSegError as error:
        print(error)
        sys.exit(1)
    except Exception:  # the traceback belongs in the log, the status says that it failed
        traceback.print_exc()
        sys.exit(1)


def fail_for_the_disk(error: OSError) -> NoReturn:
    """In a program: end, so that :func:`run_program` raises the same where the work was asked for."""
    tell(error={"kind": "OSError", "message": error.strerror or str(error), "errno": error.errno})
    sys.exit(USER_ERROR_EXIT)


def tell(**message: Any) -> None:
    """Send a message to whoever started this program."""
    print(MARK + json.dumps(message), flush=True)
