"""Why a file or a series was not used. The value is the code that users see and may script on."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A stable code; :data:`WHAT_TO_DO` has the sentence that goes with it."""

    # files
    NO_DICOM = "no-dicom"
    UNREADABLE = "unreadable"
    BAD_UID = "bad-uid"
    OTHER_KIND = "other-kind"
    LOCALIZER = "localizer"
    UID_CONFLICT = "uid-conflict"
    OWN_PREDICTION = "own-prediction"
    BURNED_IN = "burned-in-annotation"
    IDENTITY_LEFT = "identity-left"
    DELETED = "deleted"
    WITHDRAWN = "withdrawn"
    # series
    UNLABELLED = "unlabelled"
    TEST_SET = "test-set"
    OTHER_MODALITY = "other-modality"
    SUPERSEDED = "superseded"
    REFERENCE_ABSENT = "reference-absent"
    REFERENCE_AMBIGUOUS = "reference-ambiguous"
    SEVERAL_SEGMENTATIONS = "several-segmentations"
    IMAGE_HAS_GROWN = "image-has-grown"
    DRAWN_OVER_PREDICTION = "drawn-over-prediction"
    SAME_IMAGE = "same-image-other-patient"
    WITHDRAWN_ELSEWHERE = "same-image-withdrawn"
    PATIENT_MISMATCH = "patient-mismatch"
    # images
    NO_GEOMETRY = "no-geometry"
    NO_FRAME_OF_REFERENCE = "no-frame-of-reference"
    MIXED_GEOMETRY = "mixed-geometry"
    SINGLE_SLICE = "single-slice"
    DUPLICATE_POSITION = "duplicate-position"
    UNEVEN_SLICES = "uneven-slices"
    GANTRY_TILT = "gantry-tilt"
    NOT_GRAYSCALE = "not-grayscale"
    SEVERAL_FILES = "several-multi-frame-files"
    CHANGED = "changed-after-sealing"
    UNREADABLE_PIXELS = "unreadable-pixels"
    # segmentations
    UNREADABLE_SEGMENTATION = "unreadable-segmentation"
    MISSING_ROI = "missing-roi"
    DUPLICATE_ROI = "duplicate-roi"
    SEVERAL_ROIS = "several-rois"
    EMPTY_MASK = "empty-mask"
    OVERLAP = "overlap"
    CONTOUR_TYPE = "contour-type"
    CONTOUR_OFF_SLICE = "contour-off-slice"
    CONTOUR_OUTSIDE = "contour-outside"
    CONTOUR_DEGENERATE = "contour-degenerate"
    CONTOURS_OVERLAP = "contours-overlap"
    SLICES_SKIPPED = "slices-skipped"
    OTHER_FRAME = "other-frame-of-reference"
    OTHER_GRID = "other-grid"
    NOT_BINARY = "not-binary"
    IMGTOOLS_FAILED = "imgtools-failed"
    # anything
    UNEXPECTED = "unexpected"


WHAT_TO_DO: dict[Reason, str] = {
    Reason.NO_DICOM: "The file is no DICOM; nothing to do unless it should be one.",
    Reason.UNREADABLE: "The file is empty, cut short or damaged; send it again.",
    Reason.BAD_UID: "A UID is missing or malformed; export the series again.",
    Reason.OTHER_KIND: "IterSeg uses CT and MR images, RTSTRUCT and SEG; the rest is left alone.",
    Reason.LOCALIZER: "A scout is no slice of the volume; nothing to do.",
    Reason.UID_CONFLICT: "Another file has this SOP instance UID. Of two in one delivery deliver the right "
    "one alone; what the dataset holds stays, and another content needs a UID of its own (export it anew).",
    Reason.OWN_PREDICTION: "IterSeg predicted it, here or elsewhere, and nobody changed or approved it. "
    "Correct it in a viewer, or `iterseg accept` what your own model predicted.",
    Reason.BURNED_IN: "Its pixels may show a name, which de-identification cannot remove; deliver others.",
    Reason.IDENTITY_LEFT: "A label quotes the patient's name or ID; rename it and send it again.",
    Reason.DELETED: "It lies in a recycle bin; take it out of there if it is wanted.",
    Reason.WITHDRAWN: "The patient or the scan was withdrawn; `iterseg withdraw` did it.",
    Reason.UNLABELLED: "Nobody has segmented this image yet; `iterseg predict` predicts it.",
    Reason.TEST_SET: "Its patient is in the test set: draw it by hand, not over a prediction.",
    Reason.OTHER_MODALITY: "`modalities` of the dataset does not name this kind. One of segmentations "
    "can be added; another kind of image is another dataset.",
    Reason.SUPERSEDED: "A newer segmentation of the same image is used.",
    Reason.IMAGE_HAS_GROWN: "Slices came after it was drawn that it does not name; save it again on all.",
    Reason.DRAWN_OVER_PREDICTION: "Its patient is in the test set, and a prediction of it was handed out "
    "before it was drawn: it can be no label of the test any more. Leave it, or withdraw it (`--case`).",
    Reason.SAME_IMAGE: (
        "It has the voxels of another patient's case, which stays; withdraw this copy (`--case`)."
    ),
    Reason.WITHDRAWN_ELSEWHERE: "It has the voxels of a withdrawn patient's scan; withdraw this case, too.",
    Reason.REFERENCE_ABSENT: "Ingest the image series that this segmentation refers to.",
    Reason.REFERENCE_AMBIGUOUS: "It refers to several images; keep one reference.",
    Reason.SEVERAL_SEGMENTATIONS: (
        "Two segmentations of one image are of one date; say who goes first (`segmentation_precedence`) "
        "or, of two deliveries, let the later win (`same_date: later_wins`)."
    ),
    Reason.PATIENT_MISMATCH: "Image and segmentation have different patients; check the export.",
    Reason.NO_GEOMETRY: "Position, orientation or pixel spacing is missing; export again.",
    Reason.NO_FRAME_OF_REFERENCE: "No SEG or RTSTRUCT could refer to the image; export it again.",
    Reason.MIXED_GEOMETRY: "Slices differ in size, spacing or orientation; split the series.",
    Reason.SINGLE_SLICE: "A volume needs at least two slices.",
    Reason.DUPLICATE_POSITION: "Two slices lie at one place, as with two phases; split the series.",
    Reason.UNEVEN_SLICES: "A slice is missing or distances differ; send the missing slices.",
    Reason.GANTRY_TILT: "The slices are sheared by a gantry tilt; correct the tilt at the scanner.",
    Reason.NOT_GRAYSCALE: "The pixels are not MONOCHROME2, or the file has several frames.",
    Reason.SEVERAL_FILES: "A SEG refers to one multi-frame file; export the image as one, or as slices.",
    Reason.CHANGED: "A file was changed or taken away after its snapshot was sealed; put it back as it was "
    "(backup, PACS). A changed segmentation may be delivered anew, a changed image under UIDs of its own.",
    Reason.UNREADABLE_PIXELS: "The pixel data are cut short or damaged; send the file again.",
    Reason.UNREADABLE_SEGMENTATION: "The segmentation object is damaged; save it again.",
    Reason.MISSING_ROI: "Draw it, mend its pattern, or say what its absence means (`missing_structures`).",
    Reason.DUPLICATE_ROI: "Two ROIs have one name; rename or remove one.",
    Reason.SEVERAL_ROIS: "A pattern matches several ROIs; narrow it, or set `several_rois: merge`.",
    Reason.EMPTY_MASK: "The structure covers no voxel of its own. Draw it, say what its absence means "
    "(`missing_structures`), or (`mask_strategy: priority`) name it in the ROI file after what covers it.",
    Reason.OVERLAP: "Two structures share voxels; correct them, or choose `mask_strategy`: `priority` (a "
    "voxel is of the later in the ROI file: inner ones last) or `regions`.",
    Reason.CONTOUR_TYPE: "Only closed planar contours have an inside; redraw the ROI.",
    Reason.CONTOUR_OFF_SLICE: "A contour lies between two slices; redraw it on the slices.",
    Reason.CONTOUR_OUTSIDE: "A contour leaves the image; check that it belongs to this image.",
    Reason.CONTOUR_DEGENERATE: "A contour encloses no area; remove or redraw it.",
    Reason.CONTOURS_OVERLAP: "Two contours of a ROI cross or repeat each other on a slice; redraw it.",
    Reason.SLICES_SKIPPED: "It was drawn on every second slice or fewer; let the viewer interpolate it, or "
    "mark the others as `not_annotated`.",
    Reason.OTHER_FRAME: "It was drawn in another frame of reference than its image; export both together.",
    Reason.OTHER_GRID: "The SEG lies on another voxel grid than the image; save it on the image.",
    Reason.NOT_BINARY: "The SEG holds probabilities between 0 and 1; save it as binary.",
    Reason.IMGTOOLS_FAILED: "med-imagetools could not convert it; `converter: iterseg` says why.",
    Reason.UNEXPECTED: "A fault that IterSeg does not know; please report it with the log.",
}


def _from(first: Reason, last: Reason) -> list[Reason]:
    every = list(Reason)
    return every[every.index(first) : every.index(last) + 1]


WHERE: dict[str, list[Reason]] = {
    "Files": _from(Reason.NO_DICOM, Reason.WITHDRAWN),
    "Series": _from(Reason.UNLABELLED, Reason.PATIENT_MISMATCH),
    "Images": _from(Reason.NO_GEOMETRY, Reason.UNREADABLE_PIXELS),
    "Segmentations": _from(Reason.UNREADABLE_SEGMENTATION, Reason.IMGTOOLS_FAILED),
    "Anything": _from(Reason.UNEXPECTED, Reason.UNEXPECTED),
}
"""What a code is about → the codes."""

UNSETTLED = frozenset({Reason.UNEXPECTED, Reason.CHANGED})
"""What may be otherwise the next time: a fault that nobody knows, a file that could not be read."""

NOTHING_DRAWN = "no structure was drawn: all are taken for absent"
"""What is said of a case that counts, since the user has said that its structures may be absent."""
