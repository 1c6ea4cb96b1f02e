"""Knows nnU-Net v2: datasets, plans, preprocessing, training, prediction.

Nothing of DICOM, Prefect or Dask. What loads torch runs in a program of its own (``python -m``), so
that GPU memory is freed, signals work, and the process that leads never holds torch.
"""

PLAIN_TRAINER = "nnUNetTrainer"
"""As which a checkpoint calls its trainer, so that nnU-Net without IterSeg can read it."""
