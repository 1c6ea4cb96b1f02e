"""``dataset_<id>.yaml``, ``roi_<id>.yaml`` and ``deidentification.yaml``: what a user chooses for a dataset.

A wrong key or value raises :class:`ConfigError` with the file, the key and what is allowed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    RootModel,
    field_validator,
    model_validator,
)

from tasks.errors import ConfigError
from tasks.labels import Labels, MaskStrategy, MissingStructure, SeveralRois, matching
from tasks.settings.night import NightSettings
from tasks.settings.output import Destination, PredictionSettings, ReviewSettings, StructureCode
from tasks.settings.training import PlanOverrides, PromotionSettings, TrainingSettings
from tasks.settings.yaml_model import DATASET_ID, Settings, load_yaml

RESERVED_STRUCTURES = ("background", "ignore")
MASK_STRATEGY_NAMES_OF_THE_SEED = {"sparse_mask": "priority", "region_mask": "regions"}


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]


def _check_pattern(pattern: str, of: str = "") -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{of}{pattern!r} is no pattern: {error}") from None


class RoiPatterns(RootModel[dict[str, Patterns]]):
    """``roi_<dataset_id>.yaml``: structure → one regular expression or a list of them.

    A pattern must match the whole name of a ROI (RTSTRUCT) or the whole label of a segment (SEG);
    case does not matter. A structure is found by its own name too, which its predictions bear. The order of
    the file is the order of the labels 1, 2, … and of priority.
    """

    @field_validator("root")
    @classmethod
    def _names_and_patterns(cls, root: dict[str, list[str]]) -> dict[str, list[str]]:
        if not root:
            raise ValueError("name at least one structure, such as `GTV: GTV.*`")
        for structure, patterns in root.items():
            # A segment's label is a DICOM LO: 64 characters, and a backslash would part it in two.
            fits = 0 < len(structure.strip()) <= 64 and "\\" not in structure
            if not fits or structure.lower() in RESERVED_STRUCTURES:
                raise ValueError(f"{structure!r} cannot be the name of a structure")
            for pattern in patterns:
                _check_pattern(pattern, f"{structure}: ")
        for structure in root:
            found_by = [name for name, patterns in root.items() if matching([structure], patterns)]
            if found_by and structure not in found_by:
                raise ValueError(
                    f"a prediction of {structure!r} would come back as {found_by[0]!r}, whose pattern "
                    f"matches that name while its own do not; give {structure!r} another name, or a "
                    "pattern for it"
                )
        return root

    @property
    def structures(self) -> list[str]:
        """The structures in the order of the file; label = position + 1."""
        return list(self.root)


def _modality_list(value: object) -> object:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    return (
        [part.upper() if isinstance(part, str) else part for part in value]
        if isinstance(value, list)
        else value
    )


class DatasetSettings(Settings):
    """``dataset_<dataset_id>.yaml``; every key has a default, and so has the whole file."""

    modalities: Annotated[list[Literal["CT", "MR", "RTSTRUCT", "SEG"]], BeforeValidator(_modality_list)] = (
        Field(default=["CT", "RTSTRUCT", "SEG"])
    )
    """One kind of image and the kinds of segmentation that count, those among them that your viewer saves."""
    converter: Literal["iterseg", "imgtools"] = "iterseg"
    """``imgtools`` is med-imagetools' own, with its masks; docs/decisions/4-own-masks.md tells them apart. It
    needs ``mask_strategy: priority`` or ``regions`` and ``several_rois: merge``, and knows neither
    ``missing_structures`` nor ``not_annotated``."""
    mask_strategy: MaskStrategy = "label_image"
    """Of a voxel in two structures. ``label_image``: an error; ``priority`` (``sparse_mask``): the later one
    of the ROI file has it; ``regions`` (``region_mask``): both keep it."""
    several_rois: SeveralRois = "error"
    """Of a pattern that matches several ROIs of a case; ``merge``: they are one structure."""
    missing_structures: dict[str, MissingStructure] = Field(default={})
    """Structure → what it means that a case lacks it: rejected, truly not there, or drawn by nobody."""
    not_annotated: Patterns | None = None
    """Patterns of what a person draws around the slices or regions at which they have not looked."""
    segmentation_precedence: Patterns | None = None
    """Patterns of a segmentation's author (operator, reviewer, label, description). Of two of one date, the
    one that matches the earlier pattern is used."""
    same_date: Literal["error", "later_wins"] = "error"
    """Of two segmentations of one image in two deliveries of one date."""
    deidentify_folders: bool = False
    """Identities are removed from folders too, and not only from what comes over the network; those that are
    filled by hand, where files stay as they are, are left then, and every ingest says so."""
    arrival_quiet_s: float = Field(default=10, ge=0)
    """A folder is taken once nothing in it has changed for so long."""
    folds: int = Field(default=5, ge=2, le=20)
    """Stays for ever, once the first patient is placed."""
    test_share: float = Field(default=0.2, ge=0, le=0.5)
    """Of patients, held out for testing from the first sight on. Who is held out stays so for ever; with
    another share so many of those to come are taken that it is reached."""
    configuration: Literal["3d_fullres"] = "3d_fullres"
    """Of nnU-Net, the one that is planned, trained and used."""
    planner: Literal[
        "ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL"
    ] = "ExperimentPlanner"
    """nnU-Net's; it counts when a lineage is planned."""
    plan_overrides: PlanOverrides = PlanOverrides()
    """What replaces the planner's choices."""
    training: TrainingSettings = TrainingSettings()
    """How long and how fast a fold learns."""
    prediction: PredictionSettings = PredictionSettings()
    """How images are predicted, and what comes out."""
    promotion: PromotionSettings = PromotionSettings()
    """When a new model is put into use."""
    review: ReviewSettings = ReviewSettings()
    """What a person is to correct next."""
    codes: dict[str, StructureCode] = Field(default={})
    """Structure → SNOMED CT codes, which the DICOM SEG carries."""
    send_to: list[Destination] = Field(default=[])
    """Where predictions go as soon as they are written."""
    surface_tolerance_mm: PositiveFloat = 2.0
    """Of surface Dice on the test set and of effort."""
    released_code_only: bool = False
    """Refuse to prepare, train, predict or run from a checkout that was changed since its commit."""
    night: NightSettings | None = None
    """When the nightly run is due; left out: never by itself."""

    @field_validator("modalities")
    @classmethod
    def _one_image_and_its_segmentations(cls, modalities: list[str]) -> list[str]:
        images = [m for m in modalities if m in ("CT", "MR")]
        segmentations = [m for m in modalities if m in ("RTSTRUCT", "SEG")]
        if len(images) != 1 or not segmentations or len(set(modalities)) != len(modalities):
            raise ValueError("one of CT, MR and at least one of RTSTRUCT, SEG: `CT,RTSTRUCT,SEG`")
        return modalities

    @field_validator("mask_strategy", mode="before")
    @classmethod
    def _accept_the_names_of_the_seed(cls, value: object) -> object:
        return MASK_STRATEGY_NAMES_OF_THE_SEED.get(value, value) if isinstance(value, str) else value

    @field_validator("segmentation_precedence", "not_annotated")
    @classmethod
    def _patterns(cls, patterns: list[str] | None) -> list[str] | None:
        for pattern in patterns or []:
            _check_pattern(pattern)
        return patterns

    @model_validator(mode="after")
    def _sound(self) -> Self:
        unlabelled = [s for s, choice in self.missing_structures.items() if choice == "unlabelled"]
        if unlabelled and self.mask_strategy == "regions":
            raise ValueError(
                f"{unlabelled[0]} cannot be `unlabelled` with mask_strategy `regions`: a structure that may "
                "overlap all others could lie anywhere, and no voxel would be left to learn from. Use "
                "`label_image` or `priority`, or leave the cases out with `error`"
            )
        unknown = self.missing_structures or self.not_annotated or self.mask_strategy == "label_image"
        if self.converter == "imgtools" and (unknown or self.several_rois == "error"):
            raise ValueError(
                "converter `imgtools` knows neither `missing_structures` nor `not_annotated` nor a refusal "
                "of overlaps or of several ROIs of a structure; set mask_strategy `priority` and "
                "several_rois `merge`, and leave the others out"
            )
        return self

    @field_validator("send_to")
    @classmethod
    def _each_name_once(cls, destinations: list[Destination]) -> list[Destination]:
        names = [destination.name for destination in destinations]
        if len(set(names)) != len(names):
            raise ValueError(f"each destination needs a name of its own, not {', '.join(names)}")
        return destinations

    @property
    def partial(self) -> bool:
        """Whether label maps may hold voxels of which nothing is known."""
        return bool(self.not_annotated) or "unlabelled" in self.missing_structures.values()

    @property
    def image_modality(self) -> str:
        """``CT`` or ``MR``."""
        return next(m for m in self.modalities if m in ("CT", "MR"))

    @property
    def segmentation_modalities(self) -> list[str]:
        """Those of ``RTSTRUCT`` and ``SEG`` that carry labels here."""
        return [m for m in self.modalities if m in ("RTSTRUCT", "SEG")]


class DeidentificationRecipe(Settings):
    """``deidentification.yaml``: the DICOM keywords of what stays of a file; the rest is removed."""

    keep: list[str] = Field(min_length=1)
    """Stay as they are; UIDs are replaced in any case."""
    empty: list[str] = Field(default=[])
    """Stay without their value, where DICOM demands the element."""
    replace: dict[str, str] = Field(default={})
    """Keyword → what it becomes."""


def load_rois(config_dir: Path, dataset_id: str) -> RoiPatterns:
    """Read ``roi_<dataset_id>.yaml``; it must exist."""
    path = roi_file(config_dir, dataset_id)
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist. `iterseg init {dataset_id}` writes it; or write one line for each "
            "structure with the pattern of its ROI names, such as `GTV: GTV.*`"
        )
    return load_yaml(path, RoiPatterns)


def roi_file(config_dir: Path, dataset_id: str) -> Path:
    """Where the structures of a dataset stand."""
    return config_dir / f"roi_{dataset_id}.yaml"


def datasets_of(config_dir: Path) -> list[str]:
    """The ids of the datasets that have a ROI file."""
    return sorted(path.stem.removeprefix("roi_") for path in config_dir.glob("roi_*.yaml"))


def dataset_file(config_dir: Path, dataset_id: str) -> Path:
    """Where the choices of a dataset stand, if there are any."""
    return config_dir / f"dataset_{dataset_id}.yaml"


def load_dataset_settings(config_dir: Path, dataset_id: str) -> DatasetSettings:
    """Read ``dataset_<dataset_id>.yaml``, or take the defaults where there is none."""
    path = dataset_file(config_dir, dataset_id)
    return load_yaml(path, DatasetSettings) if path.is_file() else DatasetSettings()


def check_choices(config_dir: Path, dataset_id: str) -> tuple[RoiPatterns, DatasetSettings]:
    """Read both files of a dataset, and see that they fit together."""
    rois, settings = load_rois(config_dir, dataset_id), load_dataset_settings(config_dir, dataset_id)
    Labels(rois.structures, settings.mask_strategy)
    for key, named in (("missing_structures", settings.missing_structures), ("codes", settings.codes)):
        strangers = sorted(set(named) - set(rois.structures))
        if strangers:
            raise ConfigError(
                f"{dataset_file(config_dir, dataset_id)}: {key} names {', '.join(strangers)}; "
                f"the ROI file names {', '.join(rois.structures)}"
            )
    return rois, settings


def load_deidentification(config_dir: Path) -> DeidentificationRecipe | None:
    """Read ``deidentification.yaml``; None where there is none."""
    path = config_dir / "deidentification.yaml"
    return load_yaml(path, DeidentificationRecipe) if path.is_file() else None


def check_dataset_id(dataset_id: str) -> str:
    """Return the id, or raise :class:`ConfigError`: it becomes part of paths."""
    if not DATASET_ID.fullmatch(dataset_id):
        raise ConfigError(f"{dataset_id!r} cannot be a dataset id: letters, digits, - and _ only, 64 at most")
    return dataset_id
