"""A simulation's file is refused before anything is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.settings.dataset import DatasetSettings
from tasks.settings.simulation import Arm, load_simulation, settings_of

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "roi_D.yaml").write_text("GTV: GTV\n")
    (tmp_path / "dataset_D.yaml").write_text(
        "modalities: CT,RTSTRUCT\ntraining: {epochs_first: 3, device: cpu}\nnight: {cron: '0 2 * * *'}\n"
        "send_to: [{name: pacs, dicomweb: 'http://127.0.0.1:1/x'}]\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rounds: 3\n", "arms: Field required"),
        ("arms: {}\n", "arms: Dictionary should have at least 1 item"),
        ("arms: {a: {}}\nseeds: [1, 1]\n", "each seed stands once"),
        ("arms: {a/b: {}}\n", "cannot be the name of an arm"),
        ("arms: {a: {reader: {kind: lazy}}}\n", "arms.a.reader.kind"),
        (
            "arms: {a: {settings: {fold: 3}}}\n",
            r"arms.a.settings: fold: Extra inputs are not permitted; the keys are [^\n]*$",
        ),
        ("arms: {a: {}}\nbudget: 0\n", "budget"),
        ("arms: {a: {start: cold}}\n", "arms.a.start"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(config: Path, text: str, words: str) -> None:
    (config / "simulation_D.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_simulation(config, "D")


def test_a_missing_file_says_how_it_is_written(config: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"simulation_D.yaml does not exist. Write it: `arms: \{plain: \{\}\}`"
    ):
        load_simulation(config, "D")
    (config / "simulation_D.yaml").write_text("arms: {plain: {}}\n")
    assert list(load_simulation(config, "D").arms) == ["plain"]


def test_an_arm_changes_what_it_names_and_nothing_leaves_a_simulation(config: Path) -> None:
    arm = Arm.model_validate({"settings": {"training": {"epochs_first": 9}}})
    found = DatasetSettings.model_validate(settings_of(config, "D", arm))
    assert (found.training.epochs_first, found.training.device) == (9, "cpu")
    assert (found.modalities, found.send_to, found.night) == (["CT", "SEG"], [], None)
    assert found.not_annotated is None


def test_a_reader_of_some_slices_marks_the_others(config: Path) -> None:
    arm = Arm.model_validate({"reader": {"kind": "worst_slices"}})
    assert DatasetSettings.model_validate(settings_of(config, "D", arm)).partial


def test_the_published_simulation_is_one() -> None:
    assert load_simulation(CHECKOUT / "config", "hippocampus").rounds == 5
