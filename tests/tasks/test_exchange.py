"""What a file says of where its model comes from decides whether it may begin a lineage here."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from predicted_lab import a_model

from tasks.errors import UserDataError
from tasks.exchange import _rois, described, not_of_ours_through_others, take_model
from tasks.labels import Labels
from tasks.ledger.paths import DatasetPaths
from tasks.nnunet.dataset import dataset_json
from tasks.nnunet.foreign import ForeignModel, look_into, order_of_heads
from tasks.settings.dataset import DatasetSettings


@pytest.mark.parametrize(
    ("itself", "ancestors", "taken"),
    [
        (None, [], True),  # of another origin
        ("theirs", ["others'"], True),
        ("ours", ["ours"], True),  # it says itself whom each fold has seen
        ("theirs", ["others'", "ours", "others'"], False),
    ],
)
def test_a_model_that_others_trained_on_from_ours_does_not_come_back(
    home: Path, itself: str | None, ancestors: list[str], taken: bool
) -> None:
    """Which of its folds has seen whom nobody knows any more: what validates would be learned."""
    paths = DatasetPaths.of("D")
    ours = a_model(paths, ["GTV"])

    def digest(name: str) -> str:
        return ours.digest if name == "ours" else name

    said = tuple(digest(name) for name in ancestors)
    model = ForeignModel("x", {}, {}, {}, [], digest(itself) if itself else None, said)
    if taken:
        not_of_ours_through_others(paths, model)
        return
    with pytest.raises(UserDataError, match="trained on from 2026-11-20 of this dataset"):
        not_of_ours_through_others(paths, model)


def archive(file: Path, ancestors: list[str]) -> Path:
    folder = Path("Dataset001_x/t__p__3d_fullres")
    contents = {
        "plans.json": {"plans_name": "p", "image_reader_writer": "SimpleITKIO", "configurations": {}},
        "dataset.json": {"labels": {"background": 0, "GTV": 1}},
        "model_card.json": {"digest": "itself", "ancestors": ancestors},
    }
    with zipfile.ZipFile(file, "w") as made:
        for name, content in contents.items():
            made.writestr(str(folder / name), json.dumps(content))
        made.writestr(str(folder / "fold_0" / "checkpoint_final.pth"), b"weights")
    return file


def test_the_file_says_so(tmp_path: Path) -> None:
    found = look_into(archive(tmp_path / "m.zip", ["first", "second"]), "3d_fullres")
    assert (found.card_digest, found.ancestors) == ("itself", ("first", "second"))


@pytest.mark.parametrize("rois", [["core", "whole"], ["whole", "core"]])
def test_nested_regions_of_ours_are_taken_in_the_order_of_the_networks_outputs(
    home: Path, rois: list[str]
) -> None:
    """However the ROI file has them: an export names them from the outside in."""
    labels = Labels(rois, "regions")
    inside, around = labels.values["core"][0], labels.values["whole"][0]
    exported = dataset_json("MR", labels, 3, found=[around, inside | around])
    model = ForeignModel("x", {}, exported, {}, [])
    assert order_of_heads(model, labels, {}) == [0, 1]
    taken = described(model, labels, {}, "MR")
    assert list(taken["labels"].items()) == list(exported["labels"].items())
    assert taken["regions_class_order"] == exported["regions_class_order"]
    assert list(taken["labels"]) == ["background", "whole", "core"]
    made = _rois(DatasetPaths.of("D"), model, {})  # where there is no ROI file yet
    assert Labels(made.structures, "regions").values == labels.values


def test_it_is_asked_before_anything_is_taken(home: Path, tmp_path: Path) -> None:
    paths = DatasetPaths.of("D")
    file = archive(tmp_path / "m.zip", [a_model(paths, ["GTV"]).digest])
    with pytest.raises(UserDataError, match="trained on from 2026-11-20 of this dataset"):
        take_model.fn("D", file, {}, DatasetSettings())
    assert not paths.lineages.exists()
