"""A model as a zip file that plain nnU-Net installs and predicts with, and that tells nothing of the lab.

``nnUNetv2_install_pretrained_model_from_zip`` unpacks it; ``nnUNetv2_predict -d 1 -c 3d_fullres -chk
checkpoint_final.pth`` uses it. Of a checkpoint only what prediction needs goes out: weights, plans,
``dataset.json``. Neither holds a path or a case.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.ledger.files import read_json, whole_file
from tasks.ledger.iteration_paths import CHECKPOINT, PLANS, fold_folder
from tasks.nnunet import PLAIN_TRAINER
from tasks.nnunet.dataset import DESCRIPTION, FINGERPRINT
from tasks.processes.program import run_program, serve

TIMESTAMP = (2000, 1, 1, 0, 0, 0)
"""Of every member, so that the same model gives the same file."""
WITHHELD = ("dataset_name", "continue_training")


def export_model(
    model_folder: Path,
    folds: Sequence[int],
    target: Path,
    name: str,
    extra: Mapping[str, str],
    log: Path,
) -> None:
    """Write the zip file, whole or not at all.

    Parameters
    ----------
    model_folder
        nnU-Net's trained model folder.
    name
        nnU-Net's name of the dataset, such as ``Dataset001_Liver``.
    extra
        File name → text that goes beside the plans: the model card.
    """
    with whole_file(target) as temporary:
        job = {
            "model_folder": str(model_folder),
            "folds": list(folds),
            "target": str(temporary),
            "name": name,
            "extra": dict(extra),
        }
        run_program(__name__, job, log)


def _work(job: dict[str, Any]) -> None:
    import io

    import torch

    from tasks.nnunet.checkpoints import read_checkpoint

    folder = Path(job["model_folder"])
    plans = _renamed(read_json(folder / PLANS), job["name"])
    description = read_json(folder / DESCRIPTION)
    first = read_checkpoint(fold_folder(folder, job["folds"][0]) / CHECKPOINT)
    configuration = first["init_args"]["configuration"]
    inside = f"{job['name']}/{PLAIN_TRAINER}__{plans['plans_name']}__{configuration}"
    with zipfile.ZipFile(job["target"], "w", zipfile.ZIP_DEFLATED) as archive:
        texts = {PLANS: plans, DESCRIPTION: description}
        fingerprint = folder / FINGERPRINT
        if fingerprint.is_file():
            texts[FINGERPRINT] = read_json(fingerprint)
        for file, content in texts.items():
            _add(archive, f"{inside}/{file}", json.dumps(content, indent=1).encode())
        for file, text in job["extra"].items():
            _add(archive, f"{inside}/{file}", text.encode())
        for fold in job["folds"]:
            checkpoint = read_checkpoint(fold_folder(folder, fold) / CHECKPOINT)
            stream = io.BytesIO()
            torch.save(_bare(checkpoint, plans, description, configuration, fold), stream)
            _add(archive, f"{inside}/fold_{fold}/{CHECKPOINT}", stream.getvalue())


def _bare(
    checkpoint: Mapping[str, Any],
    plans: dict[str, Any],
    description: dict[str, Any],
    configuration: str,
    fold: int,
) -> dict[str, Any]:
    """What prediction and a warm start need of a checkpoint."""
    return {
        "network_weights": checkpoint["network_weights"],
        "trainer_name": PLAIN_TRAINER,
        "inference_allowed_mirroring_axes": checkpoint["inference_allowed_mirroring_axes"],
        "init_args": {
            "plans": plans,
            "configuration": configuration,
            "fold": fold,
            "dataset_json": description,
        },
        "current_epoch": checkpoint["current_epoch"],
    }


def _renamed(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**{k: v for k, v in plans.items() if k not in WITHHELD}, "dataset_name": name}


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, TIMESTAMP)
    member.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(member, content)


if __name__ == "__main__":
    serve(_work)
