"""Three iterations through a real PACS: predictions are pushed, corrected, fetched, recognised, learned from.

One correction comes back as OHIF saves a SEG, one as its RTSTRUCT, one after dcmqi has had it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hippocampus_lab
import numpy as np
import pydicom
import pytest
import readers
import sarcoma_lab
from dicom_network import Orthanc
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from tasks.dicom.case import case_id_of
from tasks.dicom.convert import LabelRules, structure_masks
from tasks.dicom.image import read_series
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.refinements import load_refinements

pytestmark = pytest.mark.slow
SEND_TO = f"send_to: [{{name: pacs, dicomweb: '{Orthanc.DICOMWEB}'}}]\n"
Masks = dict[str, NDArray[np.bool_]]


@dataclass
class Ward:
    """A home whose images lie in a PACS, and those who work there."""

    home: Path
    orthanc: Orthanc
    dataset: str = "D"

    @property
    def paths(self) -> DatasetPaths:
        return DatasetPaths(self.home, self.dataset)

    def iterseg(self, *arguments: str) -> dict[str, Any]:
        """A command in the PACS's network."""
        return self.orthanc.iterseg(self.home, *arguments)

    def fetch(self, day: str) -> dict[str, Any]:
        source = ("--dicomweb", Orthanc.DICOMWEB, "--keep-identities")
        return self.iterseg("ingest", self.dataset, *source, "--date", day)

    def predictions(self, model: str) -> list[str]:
        return sorted(file.stem for file in self.paths.predictions(model).glob("[!.]*.json"))

    def in_pacs(self, modality: str) -> int:
        series = self.orthanc.request("GET", "/series?expand")
        return sum(one["MainDicomTags"].get("Modality") == modality for one in series)

    def models(self) -> list[str]:
        return [record.model_id for record in load_models(self.paths)]

    def kinds(self) -> list[tuple[str, str, str | None]]:
        found = load_refinements(self.paths.refinements).values()
        return sorted((r.kind, r.evidence, r.model) for r in found)


def edited(masks: Masks, structure: str) -> Masks:
    """As a reader would: something else on one slice."""
    mask = masks[structure].copy()
    if mask.any():
        z, y, x = (round(float(c)) for c in np.argwhere(mask).mean(axis=0))
    else:
        z, y, x = (n // 2 for n in mask.shape)
    block = (z, slice(max(0, y - 4), y + 4), slice(max(0, x - 4), x + 4))
    mask[block] = ~mask[block]
    others = {name: other & ~mask for name, other in masks.items() if name != structure}
    return {name: mask if name == structure else others[name] for name in masks}


def masks_of(images: list[Path], seg: Path, structures: list[str]) -> Masks:
    volume = read_series(images)
    rules = LabelRules({name: [name] for name in structures}, missing=dict.fromkeys(structures, "absent"))
    found = dict(structure_masks(volume, seg, "SEG", rules))
    return {name: found.get(name, np.zeros(volume.grid.shape, bool)) for name in structures}


@pytest.mark.timeout(1800)
def test_hippocampi(home: Path, tmp_path: Path, orthanc: Orthanc) -> None:
    settings = hippocampus_lab.SETTINGS.replace("epochs_first: 8", "epochs_first: 2\n  epochs_fine_tune: 2")
    settings = settings.replace("modalities: MR,SEG", "modalities: MR,SEG,RTSTRUCT")
    more = "promotion: {margin: 0.99}\nmissing_structures: {Anterior: absent, Posterior: absent}\n"
    (home / "config" / "dataset_D.yaml").write_text(settings + more + SEND_TO)
    (home / "config" / "roi_D.yaml").write_text("Anterior: Anterior\nPosterior: Posterior\n")
    structures, ward = ["Anterior", "Posterior"], Ward(home, orthanc)
    images: dict[str, list[Path]] = {}
    for number in range(10):
        series = hippocampus_lab.series_of(number, tmp_path / "scans" / f"{number}")
        orthanc.upload(series.files)
        if number < 6:
            labels = hippocampus_lab.scan(number)[1]
            drawn = {name: labels == value for value, name in enumerate(structures, start=1)}
            target = tmp_path / f"{number}.seg.dcm"
            identity = SegIdentity(generate_uid(), generate_uid(), 2, "d", None, "1")
            write_seg(target, series.files, drawn, identity)
            orthanc.upload([target])
        else:
            images[case_id_of(series.uids["series"])] = series.files

    assert ward.fetch("2026-11-20")["totals"]["done"] == 6
    ward.iterseg("run", "D")
    (first,) = ward.models()
    assert ward.predictions(first) == sorted(images)
    assert (ward.in_pacs("SEG"), ward.in_pacs("RTSTRUCT")) == (6 + 4, 4)

    seg, rtstruct, by_dcmqi, untouched = sorted(images)
    folder = ward.paths.predictions(first)
    changed = {
        case_id: edited(masks_of(images[case_id], folder / f"{case_id}.seg.dcm", structures), "Anterior")
        for case_id in images
    }
    orthanc.upload([readers.ohif_seg(tmp_path / "back1" / "a.dcm", images[seg], changed[seg])])
    second_fetch = ward.fetch("2026-11-21")
    assert second_fetch["refinements"] == {"edited": 1}
    assert second_fetch["reasons"]["own-prediction"] == 8
    ward.iterseg("run", "D")
    _, second = ward.models()
    assert ward.predictions(second) == sorted([rtstruct, by_dcmqi, untouched])

    # The reader has not noticed the new model, and corrects what the first one drew.
    sent = folder / f"{rtstruct}.seg.dcm"
    back = readers.ohif_rtstruct(tmp_path / "back2" / "b.dcm", images[rtstruct], changed[rtstruct], sent)
    newer = ward.paths.predictions(second) / f"{by_dcmqi}.seg.dcm"
    masks = edited(masks_of(images[by_dcmqi], newer, structures), "Posterior")
    orthanc.upload([back, readers.dcmqi(tmp_path / "back3" / "c.dcm", images[by_dcmqi], newer, masks)])
    assert ward.fetch("2026-11-22")["refinements"] == {"edited": 2}
    ward.iterseg("run", "D")
    *_, third = ward.models()
    assert ward.kinds() == [
        ("edited", "overlap", first),
        ("edited", "predecessor", first),
        ("edited", "tracking", second),
    ]
    assert ward.predictions(third) == [untouched]
    learned = {case["case_id"] for case in ward.iterseg("status", "D")["cases"] if case["state"] == "done"}
    assert learned >= {seg, rtstruct, by_dcmqi}
    page = ward.paths.report.read_text()
    assert f'id="w-{untouched}"' in page
    assert "Added path length" in page


def test_sarcomas(home: Path, tmp_path: Path, orthanc: Orthanc) -> None:
    settings = sarcoma_lab.SETTINGS + "modalities: CT,SEG,RTSTRUCT\nmissing_structures: {GTV: absent}\n"
    (home / "config" / "dataset_D.yaml").write_text(settings + SEND_TO)
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV.*\n")
    ward = Ward(home, orthanc)
    for patient in ("STS_002", "STS_019", "STS_025"):
        parts = ("image",) if patient == "STS_025" else ("image", "mask")
        folder = sarcoma_lab.deliver(tmp_path / "scans", patient, *parts)
        orthanc.upload(sorted(folder.rglob("*.dcm")))
    images = sorted((tmp_path / "scans").rglob("STS_025*/image/*.dcm"))
    case_id = case_id_of(str(pydicom.dcmread(images[0]).SeriesInstanceUID))

    assert ward.fetch("2026-11-20")["totals"]["done"] == 2
    ward.iterseg("run", "D")
    (first,) = ward.models()
    sent = ward.paths.predictions(first) / f"{case_id}.seg.dcm"
    masks = edited(masks_of(images, sent, ["GTV"]), "GTV")
    orthanc.upload([readers.ohif_seg(tmp_path / "back1" / "a.dcm", images, masks)])
    assert sum(ward.fetch("2026-11-21")["refinements"].values()) == 1
    ward.iterseg("run", "D")

    # Somebody looks again, and corrects the first correction: the newest of a person counts.
    again = edited({"GTV": np.roll(masks["GTV"], 1, axis=1)}, "GTV")
    back = readers.ohif_rtstruct(tmp_path / "back2" / "b.dcm", images, again, sent)
    orthanc.upload([back])
    assert ward.fetch("2026-11-22")["refinements"] == {"edited": 1}
    ward.iterseg("run", "D")
    assert len(ward.models()) == 3
    (case,) = (row for row in ward.iterseg("status", "D")["cases"] if row["case_id"] == case_id)
    assert case["segmentation"] == str(pydicom.dcmread(back).SOPInstanceUID)
