"""The folds of a model on one image: preprocessed once, each fold's logits kept.

Their mean is nnU-Net's own ensemble, in the same arithmetic; what they disagree about costs nothing more
(:mod:`tasks.nnunet.doubt`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray

from tasks.errors import UserDataError
from tasks.nnunet.logits import logits_of


@dataclass(frozen=True)
class Preprocessed:
    """An image as the network takes it.

    Attributes
    ----------
    data
        (1, z, y, x) in the network's axes and spacing.
    properties
        nnU-Net's: what is needed to bring a segmentation back onto the image's grid.
    """

    data: torch.Tensor
    properties: dict[str, Any]


class Ensemble:
    """A loaded nnU-Net predictor, fold by fold."""

    def __init__(self, predictor: nnUNetPredictor) -> None:
        self._nnunet = predictor
        self._preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)

    @property
    def label_manager(self) -> Any:
        """Turns logits into integers."""
        return self._nnunet.label_manager

    @property
    def spacing_mm(self) -> list[float]:
        """Of the network's voxels, in its axes."""
        return [float(value) for value in self._nnunet.configuration_manager.spacing]

    @property
    def transpose_forward(self) -> list[int]:
        """Axis of the network → axis (z, y, x) of the image."""
        return [int(axis) for axis in self._nnunet.plans_manager.transpose_forward]

    def require_device(self) -> None:
        """Raise what the device says where nothing can be computed on it any more, as after an ECC error.

        A GPU's context is lost with such an error, and every case that follows would fail in milliseconds.
        """
        (torch.ones(1, device=self._nnunet.device) + 1).item()

    def preprocess(self, image: sitk.Image) -> Preprocessed:
        """Crop, normalise and resample a 3-D image of one channel, as for training.

        Raises
        ------
        UserDataError
            Where the image is no single volume.
        """
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise UserDataError("the image must be a single volume of one channel")
        # nnU-Net's axes are (z, y, x), as in its SimpleITKIO.
        array = sitk.GetArrayFromImage(image)[np.newaxis].astype(np.float32)
        given: dict[str, Any] = {"spacing": [float(s) for s in image.GetSpacing()[::-1]]}
        own = self._nnunet
        data, _, properties = self._preprocessor.run_case_npy(
            array, None, given, own.plans_manager, own.configuration_manager, own.dataset_json
        )
        return Preprocessed(torch.from_numpy(data), properties)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def fold_logits(self, image: Preprocessed) -> list[torch.Tensor]:
        """The logits of each fold, (classes, z, y, x) in the network's axes, half precision, on the CPU."""
        own, threads = self._nnunet, torch.get_num_threads()
        torch.set_num_threads(min(default_num_processes, threads))
        try:
            found = []
            for weights in own.list_of_parameters:
                own.network.load_state_dict(weights)
                found.append(logits_of(own, image.data))
            return found
        finally:
            torch.set_num_threads(threads)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def label_map(self, folds: list[torch.Tensor], image: Preprocessed) -> NDArray[np.integer]:
        """The ensemble of the folds on the image's own grid, (slices, rows, columns)."""
        mean = folds[0].clone()  # the sum in the same order and precision as nnU-Net's
        for other in folds[1:]:
            mean += other
        if len(folds) > 1:
            mean /= len(folds)
        return np.asarray(
            convert_predicted_logits_to_segmentation_with_correct_shape(
                mean,
                self._nnunet.plans_manager,
                self._nnunet.configuration_manager,
                self.label_manager,
                image.properties,
            )
        )
