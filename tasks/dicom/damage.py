"""What a damaged object does inside pydicom and highdicom, told from what a disk does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, is_of_the_disk


@contextmanager
def damage_rejects(reason: Reason, what: str) -> Iterator[None]:
    """Any failure inside is damage of an object: it raises many kinds anywhere inside pydicom and highdicom.

    Raises
    ------
    CaseRejected
        With the reason; one that is raised inside keeps its own.
    OSError
        Where the disk failed: tried again, it may well work.
    """
    try:
        yield
    except CaseRejected:
        raise
    except Exception as error:
        if is_of_the_disk(error):
            raise
        raise CaseRejected(reason, f"{what} ({type(error).__name__})") from None
