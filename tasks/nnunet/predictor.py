"""Predict with a trained model: the ensemble of its folds, on the image's own grid."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from tasks.errors import ConfigError, UserDataError
from tasks.ledger.files import read_json
from tasks.ledger.iteration_paths import CHECKPOINT, PLANS, fold_folder
from tasks.nnunet.dataset import DESCRIPTION, integers_of

if TYPE_CHECKING:  # torch takes seconds to import
    from tasks.nnunet.ensemble import Ensemble

DicomReader = Callable[[str | os.PathLike[str]], sitk.Image]
MODALITIES = ("CT", "MR")


class Predictor:
    """A trained model, loaded once, for any number of images.

    Parameters
    ----------
    model_training_output_dir
        nnU-Net's trained model folder, such as ``data/results/<dataset_id>/latest``.
    folds
        The folds of the ensemble; None takes all that are finished.
    device
        ``auto``, ``cpu`` or ``cuda``; which GPU, says ``CUDA_VISIBLE_DEVICES``.
    mirroring
        Whether to predict all mirrored images too (eight times the work) and average.
    read_dicom
        Reads a folder that holds one image series; the default is this project's own reader.

    Raises
    ------
    UserDataError
        Where the folder holds no trained model.
    ConfigError
        Where ``device`` is none of these, or the GPU that was asked for or given cannot be used.

    Examples
    --------
    >>> predictor = Predictor("data/results/PM_IASLC/latest")  # doctest: +SKIP
    >>> masks = predictor.predict_single_dicom("incoming/CT_042")  # doctest: +SKIP
    """

    def __init__(
        self,
        model_training_output_dir: str | os.PathLike[str],
        folds: Sequence[int] | None = None,
        *,
        device: str = "auto",
        mirroring: bool = True,
        read_dicom: DicomReader | None = None,
    ) -> None:
        self.folder = Path(model_training_output_dir)
        self.folds = _finished_folds(self.folder, folds)
        self._read_dicom = read_dicom
        self.ensemble = _load(self.folder, self.folds, device, mirroring)
        described = read_json(self.folder / DESCRIPTION)
        self.labels = integers_of(described)
        self.channel = str(described["channel_names"]["0"])

    def predict_single_dicom(self, path: str | os.PathLike[str]) -> dict[str, sitk.Image]:
        """Predict the one CT or MR series in a folder.

        Returns
        -------
        Structure → image of 0 and 1 (uint8) on the grid of the series, patient frame, mm.

        Raises
        ------
        UserDataError
            Where the folder holds no series, several, or one that is no even grid; and where it is no CT
            and the model of CTs, or the other way round.
        """
        image = (self._read_dicom or _project_reader())(path)
        kind = image.GetMetaData("Modality") if image.HasMetaDataKey("Modality") else None
        if kind in MODALITIES and self.channel in MODALITIES and kind != self.channel:
            raise UserDataError(f"{path} is of {kind}, and the model in {self.folder} of {self.channel}")
        return self._masks(image)

    def predict_from_single_image(self, path: str | os.PathLike[str]) -> dict[str, sitk.Image]:
        """Predict an image file (NIfTI or whatever SimpleITK reads).

        Its voxels must be what the model has learned, HU for a CT: a file does not say, so nobody checks.

        Returns
        -------
        Structure → image of 0 and 1 (uint8) on the grid of the file, patient frame (LPS), mm.

        Raises
        ------
        UserDataError
            Where there is no such file, or it is no image.
        """
        file = Path(path)
        if not file.is_file():
            raise UserDataError(f"{file} does not exist")
        try:
            image = sitk.ReadImage(str(file))
        except RuntimeError as error:
            raise UserDataError(f"{file} is no image: {str(error).strip().splitlines()[-1]}") from None
        return self._masks(image)

    def predict_label_map(self, image: sitk.Image) -> sitk.Image:
        """Predict a 3-D image.

        Parameters
        ----------
        image
            One channel, in the voxels that the model has learned: HU for a CT. Nobody checks it here.

        Returns
        -------
        Label map on the same grid, uint8 (uint16 from 255 labels on): nnU-Net's integers, or a bit
        for each structure where they may overlap (:mod:`tasks.labels`).

        Raises
        ------
        UserDataError
            Where it is no single volume of one channel.
        """
        prepared = self.ensemble.preprocess(image)
        labels = self.ensemble.label_map(self.ensemble.fold_logits(prepared), prepared)
        prediction = sitk.GetImageFromArray(labels)
        prediction.CopyInformation(image)
        return prediction

    def _masks(self, image: sitk.Image) -> dict[str, sitk.Image]:
        prediction = self.predict_label_map(image)
        labels = sitk.GetArrayViewFromImage(prediction)
        return {name: _mask(np.isin(labels, values), image) for name, values in self.labels.items()}


def _mask(inside: NDArray[np.bool_], image: sitk.Image) -> sitk.Image:
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def _finished_folds(folder: Path, folds: Sequence[int] | None) -> list[int]:
    finished = sorted(
        int(path.parent.name.removeprefix("fold_"))
        for path in folder.glob(f"fold_*/{CHECKPOINT}")
        if path.parent.name.removeprefix("fold_").isdigit()
    )
    if not finished or not (folder / PLANS).is_file():
        raise UserDataError(f"{folder} holds no trained model (no fold_*/{CHECKPOINT})")
    missing = sorted(set(folds or []) - set(finished))
    if missing:
        raise UserDataError(f"{folder} has the folds {finished} and not {missing}")
    return list(folds) if folds is not None else finished


def _load(folder: Path, folds: Sequence[int], device: str, mirroring: bool) -> Ensemble:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from tasks.nnunet.checkpoints import read_checkpoint
    from tasks.nnunet.decoding import decoder_for
    from tasks.nnunet.devices import torch_device
    from tasks.nnunet.ensemble import Ensemble

    for fold in folds:
        # nnU-Net unpickles whatever a checkpoint holds; what is more than weights is refused before.
        read_checkpoint(fold_folder(folder, fold) / CHECKPOINT)
    name = torch_device(device)
    predictor = nnUNetPredictor(
        use_mirroring=mirroring,
        device=torch.device(name),
        verbose=False,
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(folder), list(folds), CHECKPOINT)
    predictor.label_manager = decoder_for(predictor.label_manager)
    # Compiled, as `nnUNet_compile` asks for, each fold's weights would not fit into the network, and the
    # first image would take minutes.
    predictor.network = getattr(predictor.network, "_orig_mod", predictor.network)
    return Ensemble(predictor)


def _project_reader() -> DicomReader:
    """The project's reader of DICOM, by its entry point: this room knows nothing of DICOM."""
    for entry in entry_points(group="iterseg.readers", name="dicom"):
        reader: DicomReader = entry.load()
        return reader
    raise ConfigError("no reader of DICOM is installed; give `read_dicom`, or install iterseg")
