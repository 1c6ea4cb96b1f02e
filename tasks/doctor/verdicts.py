"""What was found when something was looked at before it is needed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """One thing that was looked at, whether it is well, what was found, and how to mend it."""

    what: str
    good: bool
    said: str
    mend: str = ""
