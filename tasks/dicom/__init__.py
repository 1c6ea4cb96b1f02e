"""Knows DICOM: headers, series, RTSTRUCT, SEG. Nothing of nnU-Net, Prefect or Dask.

Frames used here: *patient* is DICOM's LPS frame in mm (PS3.3 C.7.6.2.1.1); *index* is
(column, row, slice), sub-voxel, with integers at voxel centres. Arrays are (slice, row, column).
"""

import pydicom.config

# pydicom's warnings on odd values quote the value, which may be a patient's name.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
