"""Start a module of this project as a program, hear its progress, and never let it outlive its parent.

The program gets a JSON file with its job. Lines on its standard output that begin with
:data:`MARK` are messages in JSON; everything else it prints goes to its log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError, ExternalToolError, IterSegError, UserDataError
from tasks.lifeline import PARENT, die_with_parent

MARK = "@iterseg "
USER_ERROR_EXIT = 3
LAST_WORDS_LINES = 1

NOT_INHERITED = {"MALLOC_TRIM_THRESHOLD_"}
"""Dask's nanny sets it to give memory back early. Training allocates and frees without end: with it an
epoch of the demo took 30 s on two cores, without it 15 s."""

Message = dict[str, Any]


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
    ExternalToolError
        It ended with another status than 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as job_file:
        json.dump(job, job_file)
    command = [sys.executable, "-u", "-m", module, job_file.name]
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    env = {**inherited, **(environment or {}), PARENT: str(os.getpid())}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        text=True,
        errors="replace",
        start_new_session=True,
    )
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
                    error = message.get("error", error)
                    on_message(message)
                elif line.strip():
                    last.append(line.rstrip())
        returncode = process.wait()
    finally:
        _kill_group(process)
        Path(job_file.name).unlink(missing_ok=True)
    if returncode == USER_ERROR_EXIT and error is not None:
        kind = {"ConfigError": ConfigError}.get(error["kind"], UserDataError)
        raise kind(error["message"])
    if returncode != 0:
        raise ExternalToolError(f"python -m {module}", returncode, log, "\n".join(last))


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End the program and its own children, whatever state they are in."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def serve(work: Callable[[dict[str, Any]], None]) -> None:
    """The ``main`` of a program: read the job, do it, end with a status that tells the kind."""
    die_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        work(job)
    except (UserDataError, ConfigError) as error:
        tell(error={"kind": type(error).__name__, "message": str(error)})
        sys.exit(USER_ERROR_EXIT)
    except IterSegError as error:
        print(error)
        sys.exit(1)
    except Exception:  # the traceback belongs in the log, the status says that it failed
        traceback.print_exc()
        sys.exit(1)


def tell(**message: Any) -> None:
    """Send a message to whoever started this program."""
    print(MARK + json.dumps(message), flush=True)
