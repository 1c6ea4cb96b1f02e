"""A simulated lab: a home like any other, with a dataset's images and none of its segmentations."""

from __future__ import annotations

import hmac
import os
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.dicom.case import Case
from tasks.errors import ConfigError, UserDataError
from tasks.ledger.case_book import load_cases
from tasks.ledger.dated import DatedName
from tasks.ledger.files import digest_of, read_json, whole_folder, write_json
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import make_writable
from tasks.ledger.withdrawals import load_withdrawals
from tasks.outcomes import settle_as_remembered
from tasks.settings.dataset import check_choices, dataset_file, roi_file
from tasks.settings.simulation import Arm, Simulation, settings_of
from tasks.state import state_at

FIRST_DAY = date(2020, 1, 1)
Row = dict[str, Any]


@dataclass(frozen=True)
class Lab:
    """One arm with one seed."""

    source: DatasetPaths
    name: str
    arm: Arm
    seed: int

    @property
    def label(self) -> str:
        """What it is called in the UI and on the disk."""
        return f"{self.name}-{self.seed}"

    @property
    def home(self) -> Path:
        """Its own ITERSEG_HOME."""
        return self.source.simulations / self.label

    @property
    def paths(self) -> DatasetPaths:
        """Of the dataset in it."""
        return DatasetPaths(self.home, self.source.dataset_id)

    def delivery(self, number: int) -> Path:
        """The snapshot that a round begins with; 0: the images."""
        name = DatedName(FIRST_DAY + timedelta(days=number), 1, self.source.dataset_id)
        return self.paths.snapshot(name)

    @property
    def choices(self) -> Path:
        """With what it was begun."""
        return self.home / "choices.json"

    @property
    def _rounds(self) -> Path:
        return self.home / "rounds.json"

    def rounds(self) -> list[Row]:
        """What the finished rounds gave, the first one first."""
        found: list[Row] = read_json(self._rounds) if self._rounds.is_file() else []
        return found

    def note(self, row: Row) -> None:
        """Add a round; noted again, as by a task that is tried again, it takes its own place."""
        others = [one for one in self.rounds() if one["round"] != row["round"]]
        write_json(self._rounds, [*others, row])


@task(task_run_name="open-{lab.label}", **RETRIED)
def open_lab(lab: Lab, simulation: Simulation) -> None:
    """Make the home of a lab: the dataset's choices, with those of the arm, and links to its images.

    Where another arm of the seed has played the same first round, the lab goes on from there: until then
    nothing was chosen or corrected.

    Raises
    ------
    ConfigError
        Where the lab has begun with other choices: its rounds would be told as if they had been made with
        those of now.
    """
    choices = settings_of(lab.source.config, lab.source.dataset_id, lab.arm)
    played = {"settings": choices, **_played(lab, simulation)}
    if lab.home.is_dir():
        if lab.choices.is_file() and read_json(lab.choices) != played:
            raise ConfigError(
                f"the lab {lab.label} has begun with other choices ({lab.choices.name} in it says which); "
                f"give the arm another name, or delete {lab.home} to play it anew. Sealed folders are "
                f"read-only: `find {lab.home} -type d -exec chmod u+w {{}} +` opens them, and leaves files "
                "alone, which are the dataset's own"
            )
        if _holds_withdrawn(lab, lab.home):
            raise ConfigError(
                f"the lab {lab.label} learns from somebody who was withdrawn since; delete {lab.home} to "
                "play it anew without them"
            )
        _take_clusters(lab.source, lab.paths)
        return
    begun = _begun(lab, simulation)
    with whole_folder(lab.home) as home:
        if begun.is_dir() and not _holds_withdrawn(lab, begun):
            _copy(begun, home)
        else:
            _fill(lab, simulation, home)
        file = dataset_file(DatasetPaths(home, lab.source.dataset_id).config, lab.source.dataset_id)
        file.write_text(yaml.safe_dump(choices, sort_keys=False))
        write_json(home / lab.choices.name, played)


def _take_clusters(source: DatasetPaths, lab: DatasetPaths) -> None:
    """Where a lab computes is no choice of the lab: a walltime may be raised between its rounds."""
    if (source.config / "clusters").is_dir():
        shutil.copytree(source.config / "clusters", lab.config / "clusters", dirs_exist_ok=True)


def remove_lab(home: Path) -> None:
    """Remove a lab with its sealed folders; the dataset's own files, to which they link, stay as they are."""
    for folder in home.glob("data/rawdata/*/*/"):
        make_writable(folder, files=False)
    shutil.rmtree(home)


def _holds_withdrawn(lab: Lab, home: Path) -> bool:
    """Whether somebody was withdrawn to whose images a lab, or one that is kept for others, has links."""
    withdrawn, booked = load_withdrawals(lab.source.withdrawals), load_cases(lab.source.cases)
    patients = {case_id: history[-1]["patient"] for case_id, history in booked.items()}
    images = home / lab.delivery(0).relative_to(lab.home)
    cases = [folder.name for folder in images.iterdir() if folder.is_dir()]
    return any(withdrawn.hold(patients.get(case_id, ""), case_id) for case_id in cases)


def _played(lab: Lab, simulation: Simulation) -> dict[str, Any]:
    """What makes the rounds of a lab, besides its settings; how many are played may grow."""
    arm = lab.arm.model_dump(mode="json", exclude={"settings"})
    return {"arm": arm, **simulation.model_dump(mode="json", exclude={"arms", "seeds", "rounds"})}


@task(task_run_name="keep-{lab.label}", **RETRIED)
def keep_first_round(lab: Lab, simulation: Simulation) -> None:
    """Keep a lab as it is after its first round, for the other arms of its seed."""
    begun = _begun(lab, simulation)
    if begun.is_dir() and _holds_withdrawn(lab, begun):
        remove_lab(begun)
    if not begun.is_dir():
        with whole_folder(begun) as home:
            _copy(lab.home, home)


def _begun(lab: Lab, simulation: Simulation) -> Path:
    """Where a lab is kept that has begun like this one: all settings count but those of the worklist."""
    choices = settings_of(lab.source.config, lab.source.dataset_id, lab.arm)
    choices.pop("review", None)
    digest = digest_of([choices, simulation.first_batch, lab.seed, simulation.places_key])
    return lab.source.simulations / f"begun-{lab.seed}-{digest[:8]}"


def _copy(home: Path, target: Path) -> None:
    """A lab beside itself. Only DICOM is linked: logs and choices are written to where they are."""

    def copy(one: str, other: str) -> None:
        if one.endswith(".dcm"):
            _link(one, other)
        else:
            shutil.copy2(one, other)

    shutil.copytree(home, target, symlinks=True, copy_function=copy, dirs_exist_ok=True)


def _key_of(lab: Lab, simulation: Simulation) -> str:
    """The lab's patient key: the same for every arm of a seed."""
    if simulation.places_key is not None:
        return sha256(f"{simulation.places_key} {lab.seed}".encode()).hexdigest()
    secret = lab.source.patient_key.read_bytes()
    return hmac.new(secret, f"simulation {lab.seed}".encode(), sha256).hexdigest()


def _fill(lab: Lab, simulation: Simulation, home: Path) -> None:
    source, dataset_id = lab.source, lab.source.dataset_id
    paths = DatasetPaths(home, dataset_id)
    paths.config.mkdir(parents=True)
    shutil.copy(roi_file(source.config, dataset_id), paths.config)
    _take_clusters(source, paths)
    images = paths.rawdata / lab.delivery(0).name
    for case in truth_of(source).values():
        (images / case.case_id).mkdir(parents=True)
        for number, file in enumerate(case.files):
            _link(file.path, images / case.case_id / f"{number:04}.dcm")
    paths.patient_key.write_text(f"{_key_of(lab, simulation)}\n")
    # Labs convert and preprocess the same cases; what is addressed by its content can be shared.
    paths.procdata.mkdir(parents=True)
    source.simulated_store.mkdir(exist_ok=True)
    paths.store.symlink_to(os.path.relpath(source.simulated_store, lab.paths.procdata))


def truth_of(source: DatasetPaths) -> dict[str, Case]:
    """The labelled cases of a dataset: their segmentations are the truth.

    Those that its last ``prepare`` set aside are none: no reader can draw what they are missing.
    """
    rois, settings = check_choices(source.config, source.dataset_id)
    assembly, _ = state_at(source, settings)
    settle_as_remembered(source, assembly, settings, rois)
    cases = {c.case_id: c for c in assembly.images if c.state == "pending"}
    if not cases:
        raise UserDataError(f"{source.dataset_id} has no labelled image, and nothing to play a reader from")
    return cases


def _link(source: str | Path, target: str | Path) -> None:
    """Images are large; where links across disks are impossible they are copied."""
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copy(source, target)
        except OSError as error:  # without its path, which may be made of a name
            raise OSError(error.errno, error.strerror) from None
