"""A model folder of nnU-Net with folds of random weights: what they say is nothing, but it is theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tasks.labels import Labels
from tasks.nnunet.dataset import dataset_json

PATCH = [16, 24, 24]
SPACING_MM = [3.0, 1.0, 1.5]
FEATURES = [4, 8, 16]


def plans(transpose: list[int]) -> dict[str, Any]:
    stages = len(FEATURES)
    backward = [transpose.index(axis) for axis in range(3)]
    kernels, strides = [[3, 3, 3]] * stages, [[1, 1, 1], [2, 2, 2], [1, 2, 2]]
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "plans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": PATCH,
        "spacing": SPACING_MM,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": FEATURES,
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": kernels,
                "strides": strides,
                "n_conv_per_stage": [1] * stages,
                "n_conv_per_stage_decoder": [1] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": "Dataset001_untrained",
        "plans_name": "plans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": transpose,
        "transpose_backward": backward,
        "original_median_spacing_after_transp": SPACING_MM,
        "original_median_shape_after_transp": PATCH,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {"3d_fullres": configuration},
    }


def untrained_model(folder: Path, labels: Labels, folds: int, transpose: list[int] | None = None) -> Path:
    """Write the folder, and return it."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    found = list(range(labels.ignore))
    content, described = plans(transpose or [0, 1, 2]), dataset_json("MR", labels, 1, found=found)
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(content))
    (folder / "dataset.json").write_text(json.dumps(described))
    manager = PlansManager(content)
    configuration = manager.get_configuration("3d_fullres")
    heads = manager.get_label_manager(described).num_segmentation_heads
    for fold in range(folds):
        torch.manual_seed(fold)
        network = nnUNetTrainer.build_network_architecture(
            manager, configuration, 1, heads, enable_deep_supervision=False
        )
        weights = folder / f"fold_{fold}" / "checkpoint_final.pth"
        weights.parent.mkdir()
        torch.save(
            {
                "network_weights": network.state_dict(),
                "trainer_name": "nnUNetTrainer",
                "init_args": {"configuration": "3d_fullres"},
                "inference_allowed_mirroring_axes": (0, 1, 2),
            },
            weights,
        )
    return folder
