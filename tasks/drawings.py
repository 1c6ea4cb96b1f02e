"""The segmentations that a dataset holds, and whether one that comes in is among them in other bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tasks.dicom.deidentify import has_lost_its_identity
from tasks.dicom.headers import IMAGE_KINDS
from tasks.dicom.saved import digest_of_saved
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.snapshots import load_snapshots


@dataclass(frozen=True)
class Drawings:
    """SOPInstanceUID → the file, as it was taken."""

    files: Mapping[str, Path]
    pseudonyms: Pseudonyms

    @classmethod
    def of(cls, paths: DatasetPaths, pseudonyms: Pseudonyms) -> Drawings:
        """Those that the snapshots took."""
        files = {
            row.header["sop_instance_uid"]: snapshot.folder / row.path
            for snapshot in load_snapshots(paths)
            for row in snapshot.taken
            if row.header is not None and row.header["kind"] not in IMAGE_KINDS
        }
        return cls(files, pseudonyms)

    def taken_before(
        self, uid: str, content: bytes, kept: bytes, stripped: Callable[[], Iterable[bytes]]
    ) -> bytes | None:
        """What is here of a segmentation that was saved once and comes again in other bytes, from an archive.

        Else it would be the newest drawing, and stand before what was corrected since. One that has lost its
        identity no longer says when it was saved, which tells a change that was taken back from a copy: it is
        the same only where it would be the same bytes.

        Parameters
        ----------
        uid, content
            Its SOPInstanceUID, and the file as it came.
        kept
            What would be kept of it.
        stripped
            What would be, if it lost its identity.

        Raises
        ------
        OSError
            Without a path, where a file that is here cannot be read.
        """
        here = [_content(file) for file in self._files(uid)]
        if not here or kept in here:
            return None
        # The latter was given by earlier versions.
        by_bytes = self.pseudonyms.uid(f"{uid} {sha256(content).hexdigest()}")
        for anew in self._files(self.uid_of_its_own(uid, content), by_bytes):
            return _content(anew)
        for stored in here:
            if has_lost_its_identity(stored):
                same = stored in stripped()
            else:
                same = not has_lost_its_identity(kept) and digest_of_saved(stored) == digest_of_saved(kept)
            if same:
                return stored
        return None

    def uid_of_its_own(self, uid: str, content: bytes) -> str:
        """A UID for what was saved under one that another drawing has; the same whoever has carried it."""
        return self.pseudonyms.uid(f"{uid} {digest_of_saved(content)}")

    def _files(self, *uids: str) -> list[Path]:
        """What is here under one of these UIDs, or under what stands for it."""
        names = [name for uid in uids for name in (uid, self.pseudonyms.uid(uid))]
        files = [self.files[name] for name in names if name in self.files]
        return [file for file in files if file.is_file()]


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:  # without its path, which may be made of a patient's name
        raise OSError(error.errno, error.strerror) from None
