"""What a file says of where its model comes from decides whether it may begin a lineage here."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from predicted_lab import a_model

from tasks.errors import UserDataError
from tasks.exchange import not_of_ours_through_others
from tasks.ledger.paths import DatasetPaths
from tasks.nnunet.foreign import ForeignModel, look_into


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


def test_the_file_says_so(tmp_path: Path) -> None:
    folder, file = Path("Dataset001_x/t__p__3d_fullres"), tmp_path / "m.zip"
    contents = {
        "plans.json": {"plans_name": "p", "image_reader_writer": "SimpleITKIO", "configurations": {}},
        "dataset.json": {"labels": {"background": 0, "GTV": 1}},
        "model_card.json": {"digest": "itself", "ancestors": ["first", "second"]},
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(str(folder / name), json.dumps(content))
        archive.writestr(str(folder / "fold_0" / "checkpoint_final.pth"), b"weights")
    found = look_into(file, "3d_fullres")
    assert (found.card_digest, found.ancestors) == ("itself", ("first", "second"))
