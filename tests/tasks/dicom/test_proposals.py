"""Names that people gave to one structure are found to be one, and names that they told apart stay apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dicom.proposals import described, propose
from tasks.labels import matching


@pytest.mark.parametrize(
    ("drawn", "structures"),
    [
        pytest.param([["GTV"], ["GTV"]], {"GTV": {"GTV"}}, id="one name"),
        pytest.param(
            [["Lung_L"], ["lung l"], ["LUNG-L"]], {"LUNG-L": {"Lung_L", "lung l", "LUNG-L"}}, id="case"
        ),
        pytest.param([["GTV1"], ["GTV"], ["GTV 2"]], {"GTV": {"GTV1", "GTV", "GTV 2"}}, id="numbers"),
        pytest.param(
            [["PTV60", "PTV54"], ["PTV60"]], {"PTV60": {"PTV60"}, "PTV54": {"PTV54"}}, id="told apart"
        ),
        pytest.param([["L1", "L2"], ["L1"]], {"L1": {"L1"}, "L2": {"L2"}}, id="vertebrae"),
        pytest.param([["60"], ["54"]], {"60": {"60"}, "54": {"54"}}, id="numbers alone"),
        pytest.param(
            [["GTV (old)"], ["GTV+2cm"]], {"GTV (old)": {"GTV (old)"}, "GTV+2cm": {"GTV+2cm"}}, id="signs"
        ),
        pytest.param([["Lung_L", "Lung_R"]], {"Lung_L": {"Lung_L"}, "Lung_R": {"Lung_R"}}, id="sides"),
        pytest.param([["__"], []], {}, id="no word"),
    ],
)
def test_names_become_structures(drawn: list[list[str]], structures: dict[str, set[str]]) -> None:
    assert {p.structure: set(p.matches) for p in propose(drawn)} == structures


def test_what_most_segmentations_have_stands_first() -> None:
    found = propose([["b", "a"], ["a"], ["a", "c"], ["c"]])
    assert [(p.structure, p.found_in) for p in found] == [("a", 3), ("c", 2), ("b", 1)]


def test_it_is_said_where_a_pattern_finds_two() -> None:
    found = described("GTV", "GTV.*", [["GTVp", "GTVn"], ["GTVp"], ["heart"]])
    assert (found.found_in, found.several_in, found.matches) == (2, 1, {"GTVp": 2, "GTVn": 1})


@given(
    st.lists(st.lists(st.text("aB1 2_-+(.|\\", min_size=1, max_size=5), max_size=4, unique=True), max_size=6)
)
def test_each_name_belongs_to_one_structure_and_no_other(drawn: list[list[str]]) -> None:
    found = propose(drawn)
    for name in {name for names in drawn for name in names if name.strip(" _-.")}:
        owners = [proposal for proposal in found if matching([name], [proposal.pattern])]
        assert len(owners) == 1, (name, found)
        assert name in owners[0].matches
