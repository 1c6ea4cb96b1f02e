"""What a case's conversion is made of, and the keys of what comes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.dicom.case import Case
from tasks.dicom.convert import CONVERTER_VERSION, LabelRules
from tasks.dicom.imgtools_converter import imgtools_version
from tasks.labels import matching
from tasks.ledger.case_book import BookedCase
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.store import image_key, label_key
from tasks.settings.dataset import DatasetSettings, RoiPatterns

OWN_CONVERTER = f"iterseg-{CONVERTER_VERSION}"


@dataclass(frozen=True)
class CaseToConvert:
    """The files of a case and the keys of what they become.

    ``patient`` is the keyed hash; ``series_instance_uid`` that of the image as it was found.
    """

    case_id: str
    files: list[str]
    image_key: str
    segmentation: str | None = None
    segmentation_kind: str | None = None
    segmentation_sha256: str | None = None
    label_key: str | None = None
    patient: str = ""
    series_instance_uid: str = ""


def to_convert(case: Case, settings: DatasetSettings, rois: RoiPatterns) -> CaseToConvert:
    """What a case's conversion depends on: its files, and what the user chose."""
    return conversions(settings, rois)(case)


def conversions(settings: DatasetSettings, rois: RoiPatterns) -> Callable[[Case], CaseToConvert]:
    """As :func:`to_convert`, for many cases: what the user chose is put into order once."""
    choices = asdict(label_rules(settings, rois))
    if not choices["not_annotated"]:
        del choices["not_annotated"]  # labels that were made before it could be chosen are the same
    return lambda case: _to_convert(case, settings, choices)


def _to_convert(case: Case, settings: DatasetSettings, choices: Mapping[str, Any]) -> CaseToConvert:
    labelled = case.segmentation is not None
    by_imgtools = labelled and settings.converter == "imgtools"
    converter = f"imgtools-{imgtools_version()}" if by_imgtools else OWN_CONVERTER
    key = image_key([file.sha256 for file in case.files], converter)
    files = [str(file.location) for file in case.files]
    if case.segmentation is None:
        return CaseToConvert(
            case.case_id,
            files,
            key,
            patient=case.patient,
            series_instance_uid=case.series_instance_uid,
        )
    return CaseToConvert(
        case.case_id,
        files,
        key,
        str(case.segmentation.path),
        case.segmentation.header.kind,
        case.segmentation.sha256,
        label_key(key, case.segmentation.sha256, choices),
        case.patient,
        case.series_instance_uid,
    )


def label_rules(settings: DatasetSettings, rois: RoiPatterns) -> LabelRules:
    """What the user chose of how ROIs become labels."""
    return LabelRules(
        {name: _with_its_own_name(name, patterns) for name, patterns in rois.root.items()},
        settings.mask_strategy,
        settings.several_rois,
        dict(sorted(settings.missing_structures.items())),
        tuple(settings.not_annotated or ()),
    )


def _with_its_own_name(structure: str, patterns: Sequence[str]) -> Sequence[str]:
    """Patterns that find a structure as predictions of it are called, too: they come back corrected."""
    return patterns if matching([structure], patterns) else [*patterns, re.escape(structure)]


def as_booked(case: Case, job: CaseToConvert, rawdata: Path, pseudonyms: Pseudonyms) -> BookedCase:
    """A case as the ledger keeps it: without the name of who drew it, but the same hand stays the same."""
    segmentation = case.segmentation
    newest = segmentation or max(case.files, key=lambda file: file.arrival)
    authors = segmentation.header.authors if segmentation else []
    return BookedCase(
        patient=case.patient,
        image=job.image_key,
        label=job.label_key,
        segmentation=pseudonyms.uid(segmentation.header.sop_instance_uid) if segmentation else None,
        drawn_by=pseudonyms.patient(f"author:{authors[0]}") if authors else None,
        arrived=newest.path.relative_to(rawdata).parts[0],
    )
