"""The ensemble of the folds is nnU-Net's own; what they disagree about is measured as it is defined."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.stats import entropy
from untrained_model import untrained_model

from tasks.errors import UserDataError
from tasks.labels import Labels
from tasks.nnunet.doubt import _pairwise_dice, doubt_of
from tasks.nnunet.predictor import Predictor
from tasks.review.scores import dice

SHAPE, SPACING_MM = (14, 40, 30), (1.5, 1.0, 3.0)
STRATEGIES = [("label_image", [0, 1, 2]), ("label_image", [2, 0, 1]), ("regions", [0, 1, 2])]


def picture(shape: tuple[int, int, int] = SHAPE) -> sitk.Image:
    """Noise with an empty border, which is cropped away."""
    values = np.zeros(shape, dtype=np.float32)
    values[2:-1, 3:-2] = np.random.default_rng(5).normal(100, 20, values[2:-1, 3:-2].shape)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING_MM)
    return image


@pytest.fixture(scope="module", params=STRATEGIES, ids=lambda p: f"{p[0]}-{p[1]}")
def predictor(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    strategy, transpose = request.param
    folder = tmp_path_factory.mktemp("model") / "m"
    untrained_model(folder, Labels(["A", "B"], strategy), folds=3, transpose=transpose)
    return Predictor(folder, device="cpu", mirroring=False)


def test_the_ensemble_is_nnunets_own(predictor: Predictor) -> None:
    image = picture()
    array = sitk.GetArrayFromImage(image)[np.newaxis]
    properties = {"spacing": list(SPACING_MM[::-1])}
    expected = predictor.ensemble._nnunet.predict_single_npy_array(array, properties, None, None, False)
    found = sitk.GetArrayFromImage(predictor.predict_label_map(image))
    assert len(np.unique(found)) > 1
    np.testing.assert_array_equal(found, expected)


def test_doubt_is_what_its_definitions_say(predictor: Predictor) -> None:
    ensemble = predictor.ensemble
    prepared = ensemble.preprocess(picture())
    folds = ensemble.fold_logits(prepared)
    assert len(folds) == 3
    found = doubt_of(ensemble, folds, prepared, predictor.labels)
    maps = [np.asarray(ensemble.label_manager.convert_logits_to_segmentation(f.float())) for f in folds]
    for name, values in predictor.labels.items():
        pairs = [dice(np.isin(a, values), np.isin(b, values)) for a, b in combinations(maps, 2)]
        defined = [1.0 if score is None else score for score in pairs]  # two that see nothing agree
        assert found["fold_dice"][name] == pytest.approx(np.mean(defined))
    seen = np.any([m > 0 for m in maps], axis=0)
    assert found["foreground"] == pytest.approx(seen.mean())
    if ensemble.label_manager.has_regions:
        each = np.stack([torch.sigmoid(f.float()).numpy()[:, seen] for f in folds])
        each = np.stack([each, 1 - each], axis=1)  # (folds, yes or no, regions, voxels)
        total, own = entropy(each.mean(0), axis=0).sum(0), entropy(each, axis=1).sum(1)
    else:
        each = np.stack([torch.softmax(f.float(), 0).numpy()[:, seen] for f in folds])
        total, own = entropy(each.mean(0), axis=0), entropy(each, axis=1)
    assert found["entropy"] == pytest.approx(total.mean(), abs=1e-4)
    assert found["mutual_information"] == pytest.approx((total - own.mean(0)).mean(), abs=1e-4)


def test_disputed_slices_are_those_of_the_image(predictor: Predictor) -> None:
    """Folds that differ on one slice of the image only: it is the one that is named."""
    ensemble = predictor.ensemble
    prepared = ensemble.preprocess(picture())
    shape = (ensemble.label_manager.num_segmentation_heads, *prepared.data.shape[1:])
    agree = torch.full(shape, -9.0)
    if not ensemble.label_manager.has_regions:
        agree[0] = 9.0
    axis = ensemble.transpose_forward.index(0)
    differ = agree.clone()
    index: list[Any] = [slice(None)] * 3
    index[axis] = 4
    differ[(-1, *index)] = 99.0
    named = doubt_of(ensemble, [agree, agree, differ], prepared, predictor.labels)["slices"]
    pixels = np.prod([n for a, n in enumerate(shape[1:]) if a != axis])
    area = pixels * np.prod([s for a, s in enumerate(ensemble.spacing_mm) if a != axis])
    height = prepared.properties["shape_after_cropping_and_before_resampling"][axis]
    assert named == [(2 + int(4.5 * height / shape[1 + axis]), pytest.approx(area))]


def test_folds_that_agree_leave_no_doubt(predictor: Predictor) -> None:
    ensemble = predictor.ensemble
    prepared = ensemble.preprocess(picture())
    (one, *_) = ensemble.fold_logits(prepared)
    found = doubt_of(ensemble, [one, one, one], prepared, predictor.labels)
    assert set(found["fold_dice"].values()) <= {1.0, None}
    assert found["mutual_information"] == pytest.approx(0, abs=1e-6)
    assert found["slices"] == []


def test_where_no_fold_sees_anything_there_is_still_a_figure(predictor: Predictor) -> None:
    ensemble = predictor.ensemble
    prepared = ensemble.preprocess(picture())
    regions = ensemble.label_manager.has_regions
    nothing = torch.full((ensemble.label_manager.num_segmentation_heads, *prepared.data.shape[1:]), -5.0)
    nothing.view(len(nothing), -1)[-1, 3:6000:5] = -1.0  # more than the thousand that are looked at
    if not regions:
        nothing[0] = 5.0
    found = doubt_of(ensemble, [nothing, nothing], prepared, predictor.labels)
    assert found["fold_dice"] == {"A": None, "B": None}
    assert found["foreground"] == 0
    if regions:
        each = torch.sigmoid(torch.tensor([-5.0, -1.0])).numpy()
        nearest = entropy(np.stack([each, 1 - each]), axis=0).sum()
    else:
        nearest = entropy(torch.softmax(torch.tensor([5.0, -5.0, -1.0]), 0).numpy())
    assert found["entropy"] == pytest.approx(nearest, rel=1e-3)


@pytest.mark.parametrize(
    "image", [sitk.Image(4, 4, sitk.sitkFloat32), sitk.Image([4] * 3, sitk.sitkVectorUInt8)]
)
def test_what_is_no_single_volume_is_said(predictor: Predictor, image: sitk.Image) -> None:
    with pytest.raises(UserDataError, match="a single volume of one channel"):
        predictor.predict_label_map(image)


def test_a_speck_in_one_fold_is_no_great_disagreement() -> None:
    """The folds that see nothing agree with each other."""
    masks = np.zeros((5, 4, 4, 4), dtype=bool)
    assert _pairwise_dice(masks) is None
    masks[0, 1, 1, 1] = True
    assert _pairwise_dice(masks) == pytest.approx(6 / 10)
