"""What the tests of this room share."""

from __future__ import annotations
import errno
import io
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import yaml
from dicom_factory import (
    Series,
    ball,
    edit,
    write_multi_frame,
    write_rois,
    write_segments,
    write_series,
)
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless
from tasks.dicom.convert import LabelRules, label_map
from tasks.dicom.deidentify import Deidentification, deidentify
from tasks.dicom.headers import Header, header_of, read_header
from tasks.dicom.names import without_identity
from tasks.dicom.image import read_series
from tasks.errors import CaseRejected, ConfigError
from tasks.ledger.pseudonyms import Pseudonyms
from planted import SHAPE, plant


@pytest.fixture
def pseudonyms(tmp_path: Path) -> Pseudonyms:
    return Pseudonyms(tmp_path / "patient.key", first=True)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "ct", SHAPE, change=plant)
