"""Folds for ever: no validation case was ever trained on by the weights that it scores."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import ConfigError, UserDataError
from tasks.ledger.patients import TEST, extend_patients


def patients(count: int) -> list[str]:
    return [f"{number * 7919 % 100_003:016x}" for number in range(1, count + 1)]


@pytest.mark.parametrize("growth", [[10, 15, 25], [50, 60, 70, 80, 90, 100]])
def test_growth_never_moves_a_patient(tmp_path: Path, growth: list[int]) -> None:
    """nnU-Net's default split re-shuffles: 33 to 84 % of validation cases had been trained on."""
    trained: dict[int, set[str]] = {fold: set() for fold in range(5)}
    for count in growth:
        table = extend_patients(tmp_path / "p.json", patients(count), 5, 0.2)
        for fold in range(5):
            validation = {p for p, place in table.place.items() if place == fold}
            assert validation
            assert not validation & trained[fold]
            trained[fold] |= {p for p, place in table.place.items() if place not in (fold, TEST)}
        test = {p for p, place in table.place.items() if place == TEST}
        assert not any(test & seen for seen in trained.values())


@settings(deadline=None)
@given(st.integers(5, 200), st.floats(0, 0.4), st.integers(2, 5))
def test_folds_are_balanced_and_the_test_set_has_its_share(
    tmp_path_factory: pytest.TempPathFactory, count: int, share: float, folds: int
) -> None:
    file = tmp_path_factory.mktemp("p") / "p.json"
    try:
        table = extend_patients(file, patients(count), folds, share)
    except UserDataError:
        assert count * (1 - share) < folds + 1
        return
    sizes = Counter(table.place.values())
    assert abs(sizes[TEST] - share * count) <= 1
    in_folds = [sizes[fold] for fold in range(folds)]
    assert max(in_folds) - min(in_folds) <= 1


def test_the_number_of_folds_stays(tmp_path: Path) -> None:
    extend_patients(tmp_path / "p.json", patients(10), 5, 0.2)
    with pytest.raises(ConfigError, match="divided into 5 folds"):
        extend_patients(tmp_path / "p.json", patients(10), 3, 0.2)


def test_too_few_patients_are_said_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserDataError, match="5 folds need a patient each"):
        extend_patients(tmp_path / "p.json", patients(4), 5, 0.0)
    assert not (tmp_path / "p.json").exists()
