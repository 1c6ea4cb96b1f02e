"""The first choices for a dataset, from what its DICOM holds: `config/roi_*.yaml` and `dataset_*.yaml`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tasks.dicom.headers import IMAGE_KINDS
from tasks.dicom.proposals import Proposal, propose
from tasks.dicom.survey import Drawing, Survey
from tasks.errors import ConfigError, UserDataError
from tasks.labels import MissingStructure
from tasks.ledger.files import write_text
from tasks.settings.dataset import (
    RESERVED_STRUCTURES,
    DatasetSettings,
    RoiPatterns,
    check_choices,
    dataset_file,
    roi_file,
)
from tasks.settings.yaml_model import said_of
from tasks.shipped import write_missing

USUAL_FOLDS = 5
LEAST_PATIENTS_A_FOLD = 2


@dataclass(frozen=True)
class Beginning:
    """What a user decided, or what was proposed and not objected to."""

    image_kind: str
    structures: Mapping[str, str]
    """Structure → pattern, in the order of their labels."""
    folds: int = USUAL_FOLDS
    merge: bool = False
    absences: Mapping[str, MissingStructure] = field(default_factory=dict)

    def rois(self) -> str:
        """The text of the ROI file."""
        head = (
            "# Structure: the pattern of its ROI names or segment labels. It must match the whole name;\n"
            "# case does not matter. The order is that of the labels 1, 2, …; with `mask_strategy:\n"
            "# priority` in the dataset's file a later structure lies on top.\n"
        )
        return head + _yaml(dict(self.structures))

    def choices(self) -> str:
        """The text of the dataset's file; what is not in it has its default."""
        # Both kinds, whatever was seen: the viewer in which predictions are corrected may save the other one.
        lines: dict[str, Any] = {"modalities": f"{self.image_kind},RTSTRUCT,SEG"}
        lines["folds"] = self.folds
        if self.merge:
            lines["several_rois"] = "merge"
        decided = {name: choice for name, choice in self.absences.items() if choice != "error"}
        if decided:
            lines["missing_structures"] = decided
        head = (
            "# What is left out has its default; docs/configuration.md has all keys. `folds` stays for\n"
            "# ever once the first patient is placed, and so does who is in the test set (`test_share`).\n"
        )
        return head + _yaml(lines)


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def patterns_of(options: Sequence[str]) -> dict[str, str]:
    """Structure → pattern, of options that are written ``NAME=PATTERN``."""
    pairs = [option.partition("=") for option in options]
    for name, equals, pattern in pairs:
        if not (name.strip() and equals and pattern.strip()):
            raise ConfigError(f"--structure {name}{equals}{pattern}: write NAME=PATTERN, such as 'GTV=GTV.*'")
    names = [name.strip() for name, _, _ in pairs]
    if len(set(names)) != len(names):
        raise ConfigError("--structure: each structure stands once; a pattern may be GTV|tumou?r")
    return {name.strip(): pattern.strip() for name, _, pattern in pairs}


def image_kinds(found: Survey | None, chosen: str | None) -> list[str]:
    """Kinds of images to learn on, the likeliest first: what was chosen, else those with most segmentations.

    Where none has any, those with most images; CT where nobody has looked.
    """
    if chosen is not None:
        if chosen.upper() not in IMAGE_KINDS:
            raise ConfigError(f"--modality {chosen}: CT or MR")
        return [chosen.upper()]
    if found is None:
        return ["CT"]
    labelled = Counter(drawing.image_kind for drawing in found.drawings if drawing.image_kind)
    kinds = [kind for kind, _ in (labelled or found.images).most_common() if kind]
    if not kinds:
        raise UserDataError("there is no CT or MR image; is it the right folder?")
    return kinds


def proposals_for(drawings: Sequence[Drawing], kind: str) -> tuple[list[Proposal], list[int]]:
    """What people have drawn, as structures; and the places, from 1, of those that half of the cases have.

    Raises
    ------
    UserDataError
        Where nothing was drawn on this kind of image.
    """
    proposals = [
        proposal
        for proposal in propose([drawing.names for drawing in drawings])
        if proposal.structure.lower() not in RESERVED_STRUCTURES
    ]
    if not proposals:
        raise UserDataError(
            f"no {kind} image has a segmentation with a name in it; give --structure NAME=PATTERN for each "
            "structure that people will draw"
        )
    usual = [n for n, p in enumerate(proposals, start=1) if 2 * p.found_in >= len(drawings)]
    return proposals, usual or [1]


def begin(
    image_kind: str,
    drawings: Sequence[Drawing],
    rows: Sequence[Proposal],
    folds: int | None,
    *,
    merge: bool,
    absences: Mapping[str, MissingStructure],
) -> Beginning:
    """What is written down of these choices; without a number of folds, what the patients suffice for."""
    patients = len({drawing.patient for drawing in drawings})
    folds = folds or (folds_for(patients) if drawings else USUAL_FOLDS)
    structures = {row.structure: row.pattern for row in rows}
    if len(structures) < len(rows):
        raise ConfigError("two structures have one name; nothing was written")
    return Beginning(image_kind, structures, folds, merge, absences)


def folds_for(patients: int) -> int:
    """As many folds as usual, or fewer where a fold would hold less than two patients.

    The test set has its share of them first.
    """
    in_folds = patients - round(DatasetSettings().test_share * patients)
    return max(2, min(USUAL_FOLDS, in_folds // LEAST_PATIENTS_A_FOLD))


def write(config_dir: Path, dataset_id: str, beginning: Beginning) -> list[Path]:
    """Write both files and what else the home lacks; a choice that exists is never replaced.

    Raises
    ------
    ConfigError
        Where one of the two exists, or what was chosen cannot be.
    """
    refuse_existing(config_dir, dataset_id)
    try:
        RoiPatterns.model_validate(dict(beginning.structures))
        DatasetSettings.model_validate(yaml.safe_load(beginning.choices()))
    except ValidationError as error:
        said = "; ".join(said_of(item) for item in error.errors())
        raise ConfigError(f"{said}. Nothing was written") from None
    texts = {
        dataset_file(config_dir, dataset_id): beginning.choices(),
        roi_file(config_dir, dataset_id): beginning.rois(),  # last: it is what makes a dataset one
    }
    config_dir.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_text(path, text)
    check_choices(config_dir, dataset_id)
    return [*texts, *write_missing(config_dir)]


def refuse_existing(config_dir: Path, dataset_id: str) -> None:
    """Raise :class:`ConfigError` where a dataset of this name has choices already."""
    for path in (roi_file(config_dir, dataset_id), dataset_file(config_dir, dataset_id)):
        if path.exists():
            raise ConfigError(f"{path} exists; edit it, or give the new dataset another name")
