"""The vocabulary of med-imagetools' ROI files, and where it is not clear enough for a label."""

from __future__ import annotations

import unittest.mock
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


NAMES = st.lists(st.sampled_from(["GTV", "gtv", "GTVp", "Lung_L", "lung r", "Heart", "ß", "İ", "a.b", ""]))
PATTERNS = st.dictionaries(
    st.sampled_from(["A", "B", "C"]),
    st.lists(st.sampled_from(["GTV", "gtv.*", "lung[_ ][lr]", "heart|gtv", "ss", "a.b", ".*"]), min_size=1),
    min_size=1,
)


@settings(deadline=None)  # the first import takes long
@given(NAMES, PATTERNS)
def test_the_rule_is_that_of_med_imagetools(names: list[str], patterns: dict[str, list[str]]) -> None:
    matcher, merge = roi_matcher_of_med_imagetools()
    names = list(dict.fromkeys(names))
    theirs = dict(matcher(match_map=patterns, handling_strategy=merge, ignore_case=True).match_rois(names))
    ours = match_rois(names, patterns, "merge", dict.fromkeys(patterns, "absent"))
    assert {s: {names[k] for k in found} for s, found in ours.items()} == {
        structure: set(theirs.get(structure, [])) for structure in patterns
    }


@lru_cache
def roi_matcher_of_med_imagetools() -> tuple[Any, Any]:
    """Its import runs ``logging.config.dictConfig``, which closes the handlers that exist."""
    with unittest.mock.patch("logging.config.dictConfig"):
        from imgtools.coretypes.masktypes.roi_matching import ROIMatcher, ROIMatchStrategy
    return ROIMatcher, ROIMatchStrategy.MERGE
