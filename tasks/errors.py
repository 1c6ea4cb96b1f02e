"""What can go wrong, split by who must act.

    IterSegError                exit code 1
    ├── UserDataError           fix the data
    │   ├── CaseRejected        one case is set aside with a coded reason, the others go on
    │   └── BusyError           another run works on the dataset; wait for it
    ├── ConfigError             fix the YAML or the command line        exit code 2
    ├── TransientError          nobody: it is tried again
    └── ExternalToolError       read the log of the program that failed

A message says what is wrong, where, and what to do. It never holds a patient's name or id.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self


class IterSegError(Exception):
    """The root of everything that IterSeg raises on purpose."""

    exit_code = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.report: dict[str, Any] = {}
        """What is known in spite of it, such as the fate of each case; for ``--json``."""

    def with_report(self, report: dict[str, Any]) -> Self:
        """The error, with what was done before it."""
        self.report = report
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect keeps each failed flow's exception for ever, in its own home, where no withdrawal comes: the
        # fates of all cases are no part of it. Flows raise what has a report, and are read in their process.
        return type(self), self.args, {k: v for k, v in vars(self).items() if k != "report"}


class UserDataError(IterSegError):
    """The data cannot be used as they are: the user mends the data."""


class BusyError(UserDataError):
    """Another run works on the dataset; nothing was done, and nothing is wrong."""


class CaseRejected(UserDataError):
    """One case cannot be used; the reason code says why.

    Parameters
    ----------
    reason
        A code of :class:`tasks.dicom.reasons.Reason`, or another short stable word.
    detail
        What a person needs to mend it: UIDs and numbers, no names of patients.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = str(reason)
        self.detail = detail

    def __reduce__(self) -> tuple[type[CaseRejected], tuple[str, str]]:
        # Exceptions are rebuilt from `args` when they cross a process; ours take two arguments.
        return type(self), (self.reason, self.detail)


class ConfigError(IterSegError):
    """A configuration file or an argument is wrong: the user mends it."""

    exit_code = 2


class TransientError(IterSegError):
    """It may well work the next time; of this tree, tasks retry this alone (:mod:`tasks.cluster.retries`)."""


class ExternalToolError(IterSegError):
    """A program that IterSeg started has failed.

    Parameters
    ----------
    command
        The program as it was started.
    returncode
        Its exit status; negative: the signal that ended it.
    log
        Where everything that it printed stands.
    last_words
        The last lines it printed.
    """

    def __init__(self, command: str, returncode: int, log: Path, last_words: str = "") -> None:
        ended = f"exit code {returncode}" if returncode >= 0 else f"signal {-returncode}"
        tail = f"\n{last_words}" if last_words else ""
        super().__init__(f"{command} failed with {ended}; its log is {log}{tail}")
        self.command, self.returncode, self.log, self.last_words = (
            command,
            returncode,
            log,
            last_words,
        )

    def __reduce__(self) -> tuple[type[ExternalToolError], tuple[str, int, Path, str]]:
        return type(self), (self.command, self.returncode, self.log, self.last_words)


def is_of_the_disk(error: Exception) -> bool:
    """Whether the system failed, and not the content: pydicom raises OSErrors without a number."""
    return isinstance(error, OSError) and error.errno is not None


def may_pass(error: Exception) -> bool:
    """Whether it is a failure of the system that may be gone when it is tried again.

    A file that is not there, is a folder, or is closed to us stays so.
    """
    stays = FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError
    return is_of_the_disk(error) and not isinstance(error, stays)
