"""A model of plain nnU-Net, read from a zip file: vetted, its labels put in our order.

What comes from elsewhere is never unpickled as it is: weights are read with ``weights_only=True``, and no
member of the archive is unpacked under a name of its own.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.errors import ConfigError, UserDataError
from tasks.labels import Labels
from tasks.ledger.files import read_json, whole_file, write_json
from tasks.ledger.iteration_paths import CARD, CHECKPOINT, PLANS, fold_folder
from tasks.nnunet import PLAIN_TRAINER
from tasks.nnunet.dataset import DESCRIPTION, FINGERPRINT, READER, integers_of
from tasks.processes.program import run_program, serve

READERS_OF_OUR_AXES = ("SimpleITKIO", "NibabelIO")
"""They give (z, y, x) in the order of the file, as ours does; others turn the image first."""
MOST_BYTES_OF_JSON = 64 << 20
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
"""What the plans name becomes part of paths."""
TRUSTED_MODULES = ("dynamic_network_architectures.", "torch.nn.")
"""nnU-Net imports and calls whatever class the plans name for the network and its parts."""


@dataclass(frozen=True)
class ForeignModel:
    """What a zip file of nnU-Net says of its model.

    Attributes
    ----------
    inside
        The folder in the archive.
    checkpoints
        The members with the final weights of each fold, in order.
    card_digest
        Which model of IterSeg it says to be; None: of another origin.
    ancestors
        Digests of the models that it says to come from.
    """

    inside: str
    plans: dict[str, Any]
    description: dict[str, Any]
    fingerprint: dict[str, Any]
    checkpoints: list[str]
    card_digest: str | None = None
    ancestors: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, list[int]]:
        """Structure → its integers, more than one of a region; without background and ignore label."""
        return integers_of(self.description)


def look_into(archive: Path, configuration: str) -> ForeignModel:
    """Find the model of a configuration in a zip file, without unpacking anything.

    Raises
    ------
    UserDataError
        Where it is no zip file, or holds no such model or several.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            return _model_in(content, configuration)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError) as error:
        # Without the file's name, which may be anything, and goes to Prefect's database.
        words = error.strerror if isinstance(error, OSError) else error
        raise UserDataError(f"the archive cannot be read as a model of nnU-Net: {words}") from None


def _model_in(content: zipfile.ZipFile, configuration: str) -> ForeignModel:
    members = [PurePosixPath(member) for member in content.namelist()]
    found = [m.parent for m in members if m.name == PLANS and str(m.parent).endswith(configuration)]
    if len(found) != 1:
        held = ", ".join(str(m.parent) for m in members if m.name == PLANS) or f"no {PLANS}"
        raise UserDataError(f"the archive must hold one model of {configuration}; it holds {held}")
    (inside,) = found
    folds = [m for m in members if m.parent.parent == inside and m.name == CHECKPOINT]
    checkpoints = [str(m) for m in sorted(folds, key=lambda m: (len(m.parent.name), m.parent.name))]
    if not checkpoints:
        raise UserDataError(
            f"the archive has no fold with {CHECKPOINT} in {inside}; export it with its final checkpoints"
        )
    fingerprint = inside / FINGERPRINT
    card_file = inside / CARD
    card = _json(content, card_file) if card_file in members else {}
    model = ForeignModel(
        str(inside),
        _json(content, inside / PLANS),
        _json(content, inside / DESCRIPTION),
        _json(content, fingerprint) if fingerprint in members else {},
        checkpoints,
        str(card.get("digest")) if card else None,
        tuple(str(digest) for digest in card.get("ancestors") or ()),
    )
    _has_what_is_read(model)
    return model


def _has_what_is_read(model: ForeignModel) -> None:
    """Raise KeyError, TypeError, ValueError or AttributeError where plans or labels are none."""
    plans, labels = model.plans, model.description["labels"]
    str(plans["plans_name"]), str(plans["image_reader_writer"]), plans["configurations"].items()
    known = {int(v) for value in labels.values() for v in (value if isinstance(value, list) else [value])}
    if known != set(range(len(known))):
        raise ValueError(f"its labels are not 0 to {len(known) - 1}")


def _json(content: zipfile.ZipFile, member: PurePosixPath) -> dict[str, Any]:
    if content.getinfo(str(member)).file_size > MOST_BYTES_OF_JSON:
        raise ValueError(f"{member} is too large")
    read = json.loads(content.read(str(member)))
    if not isinstance(read, dict):
        raise ValueError(f"{member} is no JSON object")
    return read


def order_of_heads(model: ForeignModel, ours: Labels, names: Mapping[str, str]) -> list[int]:
    """Which output of the model's network stands for the background and each of our structures.

    Parameters
    ----------
    ours
        The structures of this dataset, in the order of their labels.
    names
        Their name → ours, where they differ.

    Raises
    ------
    ConfigError
        Where the structures are not the same, or regions are coded otherwise.
    """
    theirs = {names.get(name, name): value for name, value in model.labels.items()}
    strangers = sorted(set(names) - set(model.labels))
    if strangers:
        raise ConfigError(f"--map {strangers[0]}: the model knows {', '.join(model.labels)}")
    if set(theirs) != set(ours.structures) or len(theirs) != len(model.labels):
        raise ConfigError(
            f"the model knows the structures {', '.join(model.labels)}, the ROI file names "
            f"{', '.join(ours.structures)}. A lineage has all of its ancestor's structures and no more: "
            "rename them in the ROI file, or give --map THEIRS=OURS"
        )
    if ours.overlapping:
        bits = {name: ours.values[name] for name in ours.structures}
        if theirs != bits:
            raise ConfigError(
                "the model's regions are coded otherwise than `mask_strategy: regions` does; only a model of "
                "IterSeg with the same ROI file can be taken over"
            )
        return list(range(len(ours.structures)))
    if any(len(integers) != 1 for integers in theirs.values()):
        raise ConfigError("the model was trained with regions; set `mask_strategy: regions`")
    return [0, *(theirs[name][0] for name in ours.structures)]


def own_plans(model: ForeignModel, configuration: str, modality: str, dataset: str) -> dict[str, Any]:
    """The model's plans as this project uses them.

    Raises
    ------
    ConfigError
        Where they are for another kind of image.
    """
    plans = model.plans
    chosen = plans["configurations"].get(configuration, {})
    schemes = chosen.get("normalization_schemes", [])
    if "inherits_from" in chosen:
        raise ConfigError(
            f"the model's {configuration} inherits from another configuration, which is not read"
        )
    for name in (plans["plans_name"], chosen.get("data_identifier", "")):
        if not PLAIN_NAME.fullmatch(str(name)):
            raise ConfigError(f"the model's plans name a file {name!r}; letters, digits, - and _ only")
    if len(schemes) != 1:
        raise ConfigError(f"the model takes {len(schemes)} channels for {configuration}, and one is given")
    if (schemes[0] == "CTNormalization") != (modality == "CT"):
        raise ConfigError(f"the model normalises by {schemes[0]}, and this dataset's images are {modality}")
    if plans["image_reader_writer"] not in READERS_OF_OUR_AXES:
        raise ConfigError(f"the model's images are read by {plans['image_reader_writer']}, which turns them")
    for name in _imported_names(chosen.get("architecture", {})):
        if not name.startswith(TRUSTED_MODULES):
            raise ConfigError(
                f"the model's plans name {name!r} as a part of its network, which is not trusted"
            )
    return {**plans, "dataset_name": dataset, "image_reader_writer": READER}


def _imported_names(architecture: Mapping[str, Any]) -> list[str]:
    arguments = architecture.get("arch_kwargs", {})
    parts = [arguments.get(key) for key in architecture.get("_kw_requires_import", [])]
    return [str(name) for name in (architecture.get("network_class_name"), *parts) if name is not None]


def take_over(
    archive: Path,
    model: ForeignModel,
    *,
    heads: Sequence[int],
    plans: Mapping[str, Any],
    description: Mapping[str, Any],
    configuration: str,
    target: Path,
    log: Path,
) -> None:
    """Write the model as a trained model folder of ours: ``target``, which must not exist yet."""
    target.mkdir(parents=True)
    write_json(target / PLANS, dict(plans))
    write_json(target / DESCRIPTION, dict(description))
    write_json(target / FINGERPRINT, model.fingerprint)
    job = {
        "archive": str(archive),
        "checkpoints": model.checkpoints,
        "heads": list(heads),
        "configuration": configuration,
        "target": str(target),
    }
    run_program(__name__, job, log)


def _work(job: dict[str, Any]) -> None:
    import shutil
    import tempfile

    target = Path(job["target"])
    plans, description = read_json(target / PLANS), read_json(target / DESCRIPTION)
    with zipfile.ZipFile(job["archive"]) as archive, tempfile.TemporaryDirectory() as scratch:
        for fold, member in enumerate(job["checkpoints"]):
            file = Path(scratch) / "checkpoint.pth"
            with archive.open(member) as source, file.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            _take_fold(file, fold, plans, description, job, target)


def _take_fold(
    file: Path,
    fold: int,
    plans: dict[str, Any],
    description: dict[str, Any],
    job: Mapping[str, Any],
    target: Path,
) -> None:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from tasks.nnunet.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(file)
    weights = {
        name: value[job["heads"]] if ".seg_layers." in name else value
        for name, value in checkpoint["network_weights"].items()
    }
    manager = PlansManager(plans)
    network = nnUNetTrainer.build_network_architecture(
        manager,
        manager.get_configuration(job["configuration"]),
        1,
        manager.get_label_manager(description).num_segmentation_heads,
        enable_deep_supervision=True,
    )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        words = str(error).strip().splitlines()[0]
        raise UserDataError(f"the weights of fold {fold} do not fit the model's own plans: {words}") from None
    folder = fold_folder(target, fold)
    folder.mkdir(exist_ok=True)
    arguments = {"plans": plans, "configuration": job["configuration"], "fold": fold}
    taken = {
        "network_weights": weights,
        "trainer_name": PLAIN_TRAINER,
        "inference_allowed_mirroring_axes": checkpoint.get("inference_allowed_mirroring_axes"),
        "init_args": {**arguments, "dataset_json": description},
        "current_epoch": checkpoint.get("current_epoch", 0),
    }
    with whole_file(folder / CHECKPOINT) as temporary, temporary.open("wb") as stream:
        torch.save(taken, stream)


if __name__ == "__main__":
    serve(_work)
