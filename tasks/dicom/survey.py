"""What a folder of DICOM holds, before anything is decided: images, and the names of what was drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tasks.dicom.headers import IMAGE_KINDS, Header, read_header
from tasks.dicom.reasons import Reason
from tasks.dicom.rtstruct import read_rois
from tasks.dicom.seg import SegObject
from tasks.errors import CaseRejected

READERS = 8
"""Threads, which wait for the disk more than for a core."""
Looked = Iterable[Header | Reason]
Watched = Callable[[Looked, int], Looked]


@dataclass(frozen=True)
class Drawing:
    """A segmentation: what it is, of which kind of image, and the names of what holds something."""

    kind: str
    image_kind: str | None
    """None where the image is not in the folder."""
    patient: str
    names: tuple[str, ...]


@dataclass
class Survey:
    """What was found."""

    files: int = 0
    images: Counter[str] = field(default_factory=Counter)
    """``CT`` or ``MR`` → number of series."""
    patients: int = 0
    drawings: list[Drawing] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Code of :class:`tasks.dicom.reasons.Reason` → number of files."""

    def of(self, image_kind: str) -> list[Drawing]:
        """The segmentations of one kind of image."""
        return [drawing for drawing in self.drawings if drawing.image_kind == image_kind]


def survey(files: Sequence[Path], watched: Watched = lambda looked, _: looked) -> Survey:
    """Read every header of some files, and the names in every RTSTRUCT and SEG; nothing is written.

    A file that cannot be read is counted by its reason, and the others go on.

    Parameters
    ----------
    watched
        Shows how far it is: is given what is looked at, one file after another, and how many there are.
    """
    paths = [path for path in files if path.is_file()]
    with ThreadPoolExecutor(READERS) as pool:
        looked = list(watched(pool.map(_look, paths), len(paths)))
    found = Survey(files=len(paths), left_out=Counter(o.value for o in looked if isinstance(o, Reason)))
    headers = [(path, o) for path, o in zip(paths, looked, strict=True) if isinstance(o, Header)]
    found.patients = len({header.patient for _, header in headers})
    series = {h.series_instance_uid: h.kind for _, h in headers if h.kind in IMAGE_KINDS and not h.localizer}
    instances = {h.sop_instance_uid: h.kind for _, h in headers if h.kind in IMAGE_KINDS}
    frames = {h.frame_of_reference_uid: h.kind for _, h in headers if h.kind in IMAGE_KINDS}
    found.images = Counter(series.values())
    for path, header in headers:
        if header.kind in IMAGE_KINDS:
            continue
        if header.predicted:
            found.left_out[Reason.OWN_PREDICTION.value] += 1
            continue
        try:
            names = _names(path, header.kind)
        except CaseRejected as error:
            found.left_out[error.reason] += 1
            continue
        except OSError:
            found.left_out[Reason.UNREADABLE.value] += 1
            continue
        kinds = [series.get(uid) for uid in header.referenced_series]
        kinds += [instances.get(uid) for uid in header.referenced_instances]
        if not (header.referenced_series or header.referenced_instances):  # as conversion finds its image
            kinds = [frames.get(header.frame_of_reference_uid)]
        of_image = next((kind for kind in kinds if kind), None)
        found.drawings.append(Drawing(header.kind, of_image, header.patient, tuple(names)))
    return found


def _look(path: Path) -> Header | Reason:
    try:
        return read_header(path, lambda identity: sha256(identity.encode()).hexdigest())
    except CaseRejected as error:
        return Reason(error.reason)


def _names(path: Path, kind: str) -> Sequence[str]:
    """As conversion sees them: a ROI without a contour is none."""
    if kind == "SEG":
        return [segment.name for segment in SegObject(path).segments]
    return [roi.name for roi in read_rois(path) if roi.drawn]
