"""Real files, damaged: no run crashes, no label is wrong, and the good case beside them is kept."""

from __future__ import annotations

import random
import shutil
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from conversion import deliver, forget
from dicom_factory import Series, ball, write_multi_frame, write_rois, write_segments, write_series
from mutations import DAMAGES
from numpy.typing import NDArray

from tasks.dicom.convert import LabelRules, label_map
from tasks.dicom.headers import read_header
from tasks.dicom.image import SeriesVolume, read_series
from tasks.dicom.reasons import Reason
from tasks.settings.dataset import DatasetSettings

PATTERNS = {"GTV": "GTV.*"}
GOOD_SHAPE = (5, 12, 14)
GOOD = ball(GOOD_SHAPE, (2, 6, 6), 3)
OBJECTS = ["slices + RTSTRUCT", "slices + SEG", "frames + RTSTRUCT", "frames + SEG"]


@dataclass
class Truth:
    """An undamaged delivery, and what it says."""

    folder: Path
    labels: dict[str, NDArray[Any]]
    """SOP instance UID of a file → the mask of its slice, or of all its frames."""
    settings: DatasetSettings

    def of(self, uids: list[str]) -> NDArray[np.bool_]:
        """The mask of a series; an instance that was renamed is whichever is left."""
        left = iter([uid for uid in self.labels if uid not in uids])
        parts = [self.labels[uid] if uid in self.labels else self.labels[next(left)] for uid in uids]
        return parts[0] if len(uids) == 1 else np.stack(parts)


@pytest.fixture(scope="session")
def truths(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Truth]:
    root = Path(__file__).parents[1] / "data" / "sarcoma" / "STS_002" / "MR_T1"
    kinds = {file: read_header(file, str).kind for file in sorted(root.rglob("*.dcm"))}
    slices = [file for file, kind in kinds.items() if kind == "MR"]
    (drawn,) = (file for file, kind in kinds.items() if kind == "RTSTRUCT")
    volume = read_series(slices)
    rules = LabelRules({"GTV": ["GTV.*"]})
    import SimpleITK as sitk

    mask = sitk.GetArrayFromImage(label_map(volume, drawn, "RTSTRUCT", rules)) > 0
    return {name: _truth(tmp_path_factory.mktemp("truth"), name, volume, drawn, mask) for name in OBJECTS}


def _truth(folder: Path, name: str, volume: SeriesVolume, drawn: Path, mask: NDArray[np.bool_]) -> Truth:
    series = Series(folder, list(volume.files), volume.grid, np.zeros(0, np.int16), {"series": "real"})
    if name.startswith("frames"):
        file = write_multi_frame(folder / "frames", series, "enhanced MR")
        series = Series(folder, [file], volume.grid, series.voxels, series.uids)
    else:
        for number, source in enumerate(volume.files):
            shutil.copy(source, folder / f"{number:03}")
    if name.endswith("SEG"):
        write_segments(folder / "drawn", series, mask.astype(int), ["GTV"])
    elif name.startswith("frames"):
        write_rois(folder / "drawn", series, {"GTV": mask})
    else:
        shutil.copy(drawn, folder / "drawn")
    good = write_series(folder / "good", GOOD_SHAPE, name="good", kind="MR")
    write_rois(folder / "good" / "rt", good, {"GTV": GOOD}, name="good-rt")
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in series.files]
    labels = dict(zip(uids, mask if len(uids) > 1 else [mask], strict=True))
    return Truth(folder, labels, DatasetSettings(modalities="MR,RTSTRUCT,SEG", arrival_quiet_s=0))


def damaged(truth: Truth, target: Path, seed: int) -> str:
    """A copy of a delivery with one file, or one kind of file, damaged; returns what was done."""
    rng = random.Random(seed)
    shutil.copytree(truth.folder, target, ignore=shutil.ignore_patterns("*.binary"))
    # The segmentation is one file of many; it is hit half of the time.
    images = sorted(p for p in target.iterdir() if p.is_file() and p.name != "drawn")
    file = target / "drawn" if rng.random() < 0.5 else rng.choice(images)
    damage = rng.choice(DAMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.write_bytes(damage(file.read_bytes(), rng))
    return f"{damage.__name__} of {file.name}, seed {seed}"


def check(truth: Truth, work: Path, seed: int) -> str:
    """Damage, deliver and compare; returns how it ended, `WRONG: …` where it must not end so."""
    what = damaged(truth, work, seed)
    outcome = deliver(work, PATTERNS, truth.settings)
    if sum(outcome.files.values()) != sum(p.is_file() for p in work.rglob("*")):
        return f"WRONG: {what}: files are not accounted for"
    said = [*outcome.images.values(), *outcome.segmentations]
    if any(case.reason == Reason.UNEXPECTED for case in said):
        return f"WRONG: {what}: unexpected"
    ends: Counter[str] = Counter()
    for uids, labels in outcome.labels.values():
        good = labels.shape == GOOD_SHAPE
        if not np.array_equal(labels > 0, GOOD if good else truth.of(uids)):
            return f"WRONG: {what}: another label"
        ends["good" if good else "done"] += 1
    if ends["good"] != 1:
        return f"WRONG: {what}: the good case is lost"
    case = next((c for c in said if c.reason), None)
    return "done" if ends["done"] else str(case.reason if case else "absent")


def ends_of(truth: Truth, home: Path, work: Path, seeds: range) -> Counter[str]:
    ends: Counter[str] = Counter()
    for seed in seeds:
        ends[check(truth, work, seed)] += 1
        shutil.rmtree(work)
        forget(home)
    return ends


@pytest.mark.parametrize("name", OBJECTS)
def test_damage_never_makes_a_label_wrong(
    truths: dict[str, Truth], home: Path, tmp_path: Path, name: str
) -> None:
    ends = ends_of(truths[name], home, tmp_path / "in", range(25))
    assert [end for end in ends if end.startswith("WRONG")] == []
    assert len(ends) > 1


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", OBJECTS)
def test_two_thousand_damages_never_make_a_label_wrong(
    truths: dict[str, Truth], home: Path, tmp_path: Path, name: str
) -> None:
    ends = ends_of(truths[name], home, tmp_path / "in", range(1000, 1600))
    print(name, dict(ends))
    assert [end for end in ends if end.startswith("WRONG")] == []
    assert len(ends) > 5
