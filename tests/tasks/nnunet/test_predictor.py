"""The Python API of the seed, without its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from untrained_model import untrained_model

from tasks.errors import UserDataError
from tasks.labels import Labels
from tasks.nnunet.predictor import Predictor, _project_reader


class Decided(Predictor):
    """A predictor whose network is replaced by a given label map."""

    def __init__(self, labels: dict[str, list[int]], decision: np.ndarray) -> None:
        self.labels, self._decision = labels, decision
        self._read_dicom = None

    def predict_label_map(self, image: sitk.Image) -> sitk.Image:
        prediction = sitk.GetImageFromArray(self._decision)
        prediction.CopyInformation(image)
        return prediction


@pytest.fixture
def image(tmp_path: Path) -> Path:
    picture = sitk.GetImageFromArray(np.zeros((2, 3, 4), dtype=np.int16))
    picture.SetSpacing((0.5, 0.7, 3.0))
    picture.SetOrigin((1.0, 2.0, 3.0))
    sitk.WriteImage(picture, str(tmp_path / "i.nii.gz"))
    return tmp_path / "i.nii.gz"


def test_masks_are_0_and_1_whatever_the_labels_integer(image: Path) -> None:
    """The original returns the label's index: 0 and 2 for the second structure."""
    decision = np.zeros((2, 3, 4), dtype=np.uint8)
    decision[0, 0], decision[1, 1] = 1, 2
    masks = Decided({"A": [1], "B": [2]}, decision).predict_from_single_image(image)
    for name, value in (("A", 1), ("B", 2)):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(masks[name]), decision == value)
        assert masks[name].GetPixelID() == sitk.sitkUInt8
        assert masks[name].GetSpacing() == pytest.approx((0.5, 0.7, 3.0))
        assert masks[name].GetOrigin() == pytest.approx((1.0, 2.0, 3.0))


def test_a_region_is_all_its_labels(image: Path) -> None:
    """The original crashes on a list."""
    decision = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 3
    masks = Decided({"whole": [1, 2], "core": [2]}, decision).predict_from_single_image(image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(masks["whole"]), decision > 0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(masks["core"]), decision == 2)


def test_an_image_that_is_none_is_said(tmp_path: Path) -> None:
    predictor = Decided({"A": [1]}, np.zeros((2, 3, 4), dtype=np.uint8))
    with pytest.raises(UserDataError, match="does not exist"):
        predictor.predict_from_single_image(tmp_path / "absent.nii.gz")
    (tmp_path / "text.nii.gz").write_text("hello")
    with pytest.raises(UserDataError, match="is no image"):
        predictor.predict_from_single_image(tmp_path / "text.nii.gz")


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserDataError, match="holds no trained model"):
        Predictor(tmp_path)


def test_the_projects_reader_is_found_without_importing_its_room() -> None:
    assert _project_reader().__module__ == "tasks.dicom.image"


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_a_user_who_trains_compiled_predicts_all_the_same(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nnU-Net then gives a network into which no other fold's weights fit."""
    folder = untrained_model(tmp_path / "m", Labels(["A"], "label_image"), folds=2)
    plain = Predictor(folder, device="cpu", mirroring=False).predict_from_single_image(image)["A"]
    monkeypatch.setenv("nnUNet_compile", "t")
    compiled = Predictor(folder, device="cpu", mirroring=False).predict_from_single_image(image)["A"]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(compiled), sitk.GetArrayFromImage(plain))


@pytest.mark.parametrize(
    ("kind", "channel", "refused"),
    [("CT", "CT", False), ("MR", "CT", True), ("CT", "MR", True), ("MR", "T1", False), (None, "CT", False)],
)
def test_a_model_of_cts_does_not_predict_an_mr(
    image: Path, kind: str | None, channel: str, refused: bool
) -> None:
    """Its values would be clipped as if they were Hounsfield units, and masks come back all the same."""

    def read(path: Any) -> sitk.Image:
        found = sitk.ReadImage(str(path))
        if kind is not None:
            found.SetMetaData("Modality", kind)
        return found

    predictor = Decided({"A": [1]}, np.zeros((2, 3, 4), dtype=np.uint8))
    predictor._read_dicom, predictor.channel, predictor.folder = read, channel, Path("model")
    if refused:
        with pytest.raises(UserDataError, match=f"is of {kind}, and the model in model of {channel}"):
            predictor.predict_single_dicom(image)
        return
    assert set(predictor.predict_single_dicom(image)) == {"A"}
