"""A model from elsewhere: found, vetted, its labels put in our order, or refused with the reason."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ConfigError, UserDataError
from tasks.labels import Labels
from tasks.nnunet.foreign import ForeignModel, look_into, order_of_heads, own_plans

FOLDER = "Dataset007_Liver/nnUNetTrainer__nnUNetPlans__3d_fullres"
PLANS: dict[str, Any] = {
    "dataset_name": "Dataset007_Liver",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "NibabelIO",
    "configurations": {
        "3d_fullres": {
            "normalization_schemes": ["CTNormalization"],
            "data_identifier": "nnUNetPlans_3d_fullres",
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d", "dropout_op": None},
                "_kw_requires_import": ["conv_op", "dropout_op"],
            },
        }
    },
}
LABELS = {"background": 0, "liver": 1, "tumour": 2}


def archive(tmp_path: Path, *members: str, labels: dict[str, Any] | None = None) -> Path:
    file = tmp_path / "m.zip"
    with zipfile.ZipFile(file, "w") as content:
        for member in members:
            texts = {"plans.json": PLANS, "dataset.json": {"labels": labels or LABELS}}
            content.writestr(member, json.dumps(texts.get(Path(member).name, {})))
    return file


WHOLE = [f"{FOLDER}/{name}" for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth")]


def model(labels: dict[str, Any] | None = None, plans: dict[str, Any] | None = None) -> ForeignModel:
    return ForeignModel(FOLDER, plans or PLANS, {"labels": labels or LABELS}, {}, [])


def test_a_model_is_found_with_its_folds_in_order(tmp_path: Path) -> None:
    folds = [f"{FOLDER}/fold_{n}/checkpoint_final.pth" for n in (1, 0)]
    found = look_into(archive(tmp_path, *WHOLE[:2], *folds), "3d_fullres")
    assert found.labels == {"liver": [1], "tumour": [2]}
    assert found.checkpoints == sorted(folds)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "it holds no plans.json"),
        ([m.replace("3d_fullres", "2d") for m in WHOLE], "must hold one model of 3d_fullres"),
        ([*WHOLE, *(m.replace("nnUNetPlans", "Other") for m in WHOLE)], "must hold one model"),
        ([WHOLE[0], WHOLE[1], f"{FOLDER}/fold_0/checkpoint_best.pth"], "no fold with checkpoint_final.pth"),
        ([WHOLE[0], WHOLE[2]], "dataset.json"),
    ],
)
def test_an_archive_without_one_whole_model_is_refused(
    tmp_path: Path, members: list[str], words: str
) -> None:
    with pytest.raises(UserDataError, match=words):
        look_into(archive(tmp_path, *members), "3d_fullres")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.zip"
    file.write_bytes(content)
    with pytest.raises(UserDataError, match="cannot be read as a model of nnU-Net"):
        look_into(file, "3d_fullres")


@pytest.mark.parametrize(
    ("ours", "names", "heads"),
    [
        (["liver", "tumour"], {}, [0, 1, 2]),
        (["tumour", "liver"], {}, [0, 2, 1]),
        (["GTV", "liver"], {"tumour": "GTV"}, [0, 2, 1]),
    ],
)
def test_heads_follow_the_order_of_our_labels(
    ours: list[str], names: dict[str, str], heads: list[int]
) -> None:
    assert order_of_heads(model(), Labels(ours, "label_image"), names) == heads


@pytest.mark.parametrize(
    ("ours", "names", "words"),
    [
        (["liver"], {}, "the model knows the structures liver, tumour"),
        (["liver", "tumour", "spleen"], {}, "all of its ancestor's structures and no more"),
        (["liver", "GTV"], {}, "--map THEIRS=OURS"),
        (["liver", "GTV"], {"tumor": "GTV"}, "--map tumor: the model knows liver, tumour"),
        (["liver"], {"tumour": "liver"}, "all of its ancestor's structures"),
    ],
)
def test_other_structures_are_another_network(ours: list[str], names: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        order_of_heads(model(), Labels(ours, "label_image"), names)


def test_regions_are_taken_only_as_we_code_them() -> None:
    regions = Labels(["a", "b"], "regions")
    bits = {"background": 0, "a": [1, 3], "b": [2, 3], "ignore": 4}
    assert order_of_heads(model(bits), regions, {}) == [0, 1]
    outside_in = {"background": 0, "b": [2, 3], "a": [1, 3]}
    assert order_of_heads(model(outside_in), regions, {}) == [0, 1]
    for other in ({"background": 0, "a": [1, 2], "b": [2]}, {"background": 0, "a": [2, 3], "b": [1, 3]}):
        with pytest.raises(ConfigError, match="coded otherwise"):
            order_of_heads(model(other), regions, {})
    with pytest.raises(ConfigError, match="trained with regions"):
        order_of_heads(model(bits), Labels(["a", "b"], "label_image"), {})
    with pytest.raises(ConfigError, match="trained with regions"):
        order_of_heads(model({"background": 0, "a": 1, "b": []}), Labels(["a", "b"], "label_image"), {})


def _configured(**changes: Any) -> dict[str, Any]:
    return {**PLANS, "configurations": {"3d_fullres": {**PLANS["configurations"]["3d_fullres"], **changes}}}


def _network(**changes: Any) -> dict[str, Any]:
    architecture = PLANS["configurations"]["3d_fullres"]["architecture"]
    return _configured(architecture={**architecture, **changes})


def test_plans_are_taken_over_with_our_reader_and_name() -> None:
    plans = own_plans(model(), "3d_fullres", "CT", "Dataset001_import-1")
    assert (plans["dataset_name"], plans["image_reader_writer"]) == ("Dataset001_import-1", "SimpleITKIO")
    assert plans["configurations"] == PLANS["configurations"]


@pytest.mark.parametrize(
    ("plans", "words"),
    [
        (_configured(normalization_schemes=["ZScoreNormalization"]), "normalises by ZScoreNormalization"),
        (_configured(normalization_schemes=["CTNormalization"] * 2), "takes 2 channels"),
        ({**PLANS, "image_reader_writer": "NibabelIOWithReorient"}, "which turns them"),
        (_configured(inherits_from="evil"), "inherits from another configuration"),
        ({**PLANS, "plans_name": "../../escaped"}, "name a file '../../escaped'"),
        (_configured(data_identifier="/etc"), "name a file '/etc'"),
        (_network(network_class_name="subprocess.Popen"), "'subprocess.Popen' as a part of its network"),
        (_network(arch_kwargs={"conv_op": "os.system"}), "'os.system' as a part of its network"),
    ],
)
def test_plans_for_other_images_or_with_foreign_code_are_refused(plans: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        own_plans(model(plans=plans), "3d_fullres", "CT", "d")


@pytest.mark.parametrize(
    "labels",
    [{"background": 0, "liver": 2}, {"background": 0, "liver": "one"}, {"background": 0, "a": None}, []],
)
def test_labels_that_are_none_are_no_model(tmp_path: Path, labels: Any) -> None:
    file = tmp_path / "m.zip"
    with zipfile.ZipFile(file, "w") as content:
        for member, text in zip(WHOLE, (PLANS, {"labels": labels}, {}), strict=True):
            content.writestr(member, json.dumps(text))
    with pytest.raises(UserDataError, match="cannot be read as a model of nnU-Net"):
        look_into(file, "3d_fullres")


def test_folds_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folds = [f"{FOLDER}/fold_{n}/checkpoint_final.pth" for n in (10, 2, 0)]
    assert look_into(archive(tmp_path, *WHOLE[:2], *folds), "3d_fullres").checkpoints == folds[::-1]
