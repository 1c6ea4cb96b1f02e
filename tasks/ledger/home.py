"""Which home this process works in: the folder that holds config/ and data/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import ConfigError

SIMULATIONS = "simulations"
"""Below data/: the homes of simulated labs, one a folder of its dataset's."""


def home() -> Path:
    """``ITERSEG_HOME``, or the checkout that this code runs from."""
    chosen = os.environ.get("ITERSEG_HOME")
    if chosen:
        path = Path(chosen).expanduser().resolve()
        if not path.is_dir():
            raise ConfigError(f"ITERSEG_HOME is {path}, which is no folder")
        return path
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "config").is_dir():
        raise ConfigError("set ITERSEG_HOME to the folder that holds config/ and data/")
    return checkout


def config_folder() -> Path:
    """The YAML files of every dataset and cluster of the home."""
    return home() / "config"


@contextmanager
def at_home(root: Path) -> Iterator[None]:
    """What is called here, and the processes that it starts, have another :func:`home`."""
    before = os.environ.get("ITERSEG_HOME")
    os.environ["ITERSEG_HOME"] = str(root)
    try:
        yield
    finally:
        del os.environ["ITERSEG_HOME"]
        if before is not None:
            os.environ["ITERSEG_HOME"] = before


def is_a_lab() -> bool:
    """Whether this process works in the home of a simulated lab."""
    return home().parts[-3:-2] == (SIMULATIONS,)
