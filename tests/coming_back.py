"""What viewers, scripts and archives send back of a prediction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pydicom
import readers
from dicom_factory import ball, edit, write_rois, write_segments
from predicted_lab import Predicted
from pydicom.dataset import Dataset

from tasks.ingest import take_delivery
from tasks.ledger.refinements import Refinement, load_refinements
from tasks.refine import recognise_refinements

SHAPE = (8, 24, 28)
TUMOUR, NODE = ball(SHAPE, (4, 10, 10), 4), ball(SHAPE, (3, 18, 22), 3)
MASKS = {"GTV": TUMOUR, "node": NODE}
EDITED = TUMOUR.copy()
EDITED[4, 10:16, 10:16] = True
EDITED &= ~NODE
LABELS = EDITED + 2 * NODE
UNEDITED = TUMOUR + 2 * NODE


def comes_back(lab: Predicted, file: Path, day: int = 23) -> dict[str, Any]:
    report: dict[str, Any] = take_delivery.fn("D", file.parent, date(2026, 11, day))
    report["recognised"] = recognise_refinements.fn("D")
    return report


def refinement(lab: Predicted) -> Refinement:
    (found,) = load_refinements(lab.paths.refinements).values()
    return found


def copy_of(lab: Predicted, tmp_path: Path, ending: str, change: Callable[[Dataset], None]) -> Path:
    target = tmp_path / "back" / f"x.{ending}.dcm"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(lab.object(ending).read_bytes())
    return edit(target, change)


def archived(lab: Predicted, tmp_path: Path) -> Path:
    """A PACS that put its own number into the study."""
    return copy_of(lab, tmp_path, "seg", lambda ds: setattr(ds, "StudyID", "4711"))


def saved_in_place(lab: Predicted, tmp_path: Path) -> Path:
    """A viewer that keeps our SOPInstanceUID."""
    file = write_segments(tmp_path / "back" / "in_place.dcm", lab.series, LABELS, list(MASKS))
    uid = pydicom.dcmread(lab.object("seg")).SOPInstanceUID

    def change(ds: Dataset) -> None:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid

    return edit(file, change)


def ohif_seg(lab: Predicted, tmp_path: Path) -> Path:
    return readers.ohif_seg(tmp_path / "back" / "ohif.dcm", lab.series.files, {"GTV": EDITED, "node": NODE})


def ohif_seg_unedited(lab: Predicted, tmp_path: Path) -> Path:
    return write_segments(tmp_path / "back" / "ohif.dcm", lab.series, UNEDITED, list(MASKS))


def ohif_rtstruct(lab: Predicted, tmp_path: Path) -> Path:
    masks, sent = {"GTV": EDITED, "node": NODE}, lab.object("seg")
    return readers.ohif_rtstruct(tmp_path / "back" / "rt.dcm", lab.series.files, masks, sent)


def in_our_series(lab: Predicted, tmp_path: Path) -> Path:
    file = write_rois(tmp_path / "back" / "rt.dcm", lab.series, {"GTV": EDITED, "node": NODE})
    series = pydicom.dcmread(lab.object("rtstruct")).SeriesInstanceUID
    return edit(file, lambda ds: setattr(ds, "SeriesInstanceUID", series))


def dcmqi(lab: Predicted, tmp_path: Path) -> Path:
    return readers.dcmqi(tmp_path / "back" / "dcmqi.dcm", lab.series.files, lab.object("seg"))


def by_hand(lab: Predicted, tmp_path: Path) -> Path:
    """Somebody drew a tumour elsewhere, without having looked at the prediction."""
    elsewhere = ball(SHAPE, (4, 12, 21), 3)
    file = tmp_path / "back" / "hand.dcm"
    return write_segments(file, lab.series, elsewhere + 2 * (TUMOUR & ~elsewhere), list(MASKS))
