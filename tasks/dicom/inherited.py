"""What a SEG or RTSTRUCT takes over from the image that it belongs to."""

from __future__ import annotations

from pydicom.dataset import Dataset

SHORT = ("StudyID", "AccessionNumber")
SH_CHARACTERS = 16
"""Of a short string (PS3.5 6.2)."""


def cut_to_fit(source: Dataset) -> Dataset:
    """Cut numbers of the study that are longer than DICOM lets them be; returns the same dataset.

    Scanners and exporters write them, and every object that takes them over would be invalid. Names and
    PatientID stay: an object must be found to be of its image's patient.
    """
    for keyword in SHORT:
        value = source.get(keyword)
        if isinstance(value, str) and len(value) > SH_CHARACTERS:
            setattr(source, keyword, value[:SH_CHARACTERS])
    return source
