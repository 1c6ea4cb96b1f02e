"""The vocabulary of med-imagetools' ROI files, and where it is not clear enough for a label."""

from __future__ import annotations

import logging

import pytest

from tasks.dicom.reasons import Reason
from tasks.dicom.rois import match_rois
from tasks.errors import CaseRejected


@pytest.mark.parametrize(
    ("names", "patterns", "expected"),
    [
        (["GTV"], {"GTV": ["GTV.*"]}, {"GTV": [0]}),
        (["Body", "gtv_mass"], {"GTV": ["GTV.*"]}, {"GTV": [1]}),
        (["GTVp", "Heart"], {"H": ["heart"], "T": ["gtv.*"]}, {"H": [1], "T": [0]}),
        (["Lung_L"], {"Lung": ["lung", "lung_l"]}, {"Lung": [0]}),
        (["Lung_L"], {"Lung": ["lung.*", "lung_l"]}, {"Lung": [0]}),
        (["GTV", "GTVp"], {"A": ["GTV"]}, {"A": [0]}),
    ],
)
def test_whole_names_match_whatever_the_case(
    names: list[str], patterns: dict[str, list[str]], expected: dict[str, list[int]]
) -> None:
    assert match_rois(names, patterns, "error") == expected


@pytest.mark.parametrize(
    ("names", "patterns", "reason"),
    [
        ([], {"GTV": ["GTV.*"]}, Reason.MISSING_ROI),
        (["my GTV"], {"GTV": ["GTV.*"]}, Reason.MISSING_ROI),
        (["GTV"], {"GTV": ["GTV"], "Heart": ["heart"]}, Reason.MISSING_ROI),
        (["GTV", "GTV"], {"GTV": ["GTV"]}, Reason.DUPLICATE_ROI),
        (["GTV1", "GTV2"], {"GTV": ["GTV.*"]}, Reason.SEVERAL_ROIS),
    ],
)
def test_what_is_not_clear_is_refused(
    names: list[str], patterns: dict[str, list[str]], reason: Reason
) -> None:
    with pytest.raises(CaseRejected) as caught:
        match_rois(names, patterns, "error")
    assert caught.value.reason == reason


def test_several_rois_are_merged_where_the_user_says_so() -> None:
    assert match_rois(["GTV1", "GTV2"], {"GTV": ["GTV.*"]}, "merge") == {"GTV": [0, 1]}


def test_the_import_of_med_imagetools_leaves_our_logging_alone() -> None:
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        match_rois(["GTV"], {"GTV": ["GTV"]}, "error")
        assert handler in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(handler)
