"""A wrong key or value is named with the file, the key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.settings.cluster import load_cluster
from tasks.settings.dataset import (
    check_choices,
    datasets_of,
    load_dataset_settings,
    load_deidentification,
    load_rois,
)

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path


def test_the_seeds_roi_file_is_read_as_it_is(config: Path) -> None:
    (config / "roi_D.yaml").write_text("GTV: GTV.*\nLungs:\n  - lung_l\n  - lung_r\n")
    rois = load_rois(config, "D")
    assert rois.root == {"GTV": ["GTV.*"], "Lungs": ["lung_l", "lung_r"]}
    assert rois.structures == ["GTV", "Lungs"]


def test_everything_has_a_default(config: Path) -> None:
    settings = load_dataset_settings(config, "D")
    assert (settings.image_modality, settings.segmentation_modalities) == ("CT", ["RTSTRUCT", "SEG"])
    assert settings.folds == 5
    assert settings.training.epochs_first == 1000
    assert load_cluster(config, "local").workers == "auto"


@pytest.mark.parametrize(
    ("text", "image", "segmentations"),
    [
        ("CT,RTSTRUCT", "CT", ["RTSTRUCT"]),
        ("mr, seg", "MR", ["SEG"]),
        ("[MR, SEG, RTSTRUCT]", "MR", ["SEG", "RTSTRUCT"]),
    ],
)
def test_modalities_as_the_seed_writes_them(
    config: Path, text: str, image: str, segmentations: list[str]
) -> None:
    (config / "dataset_D.yaml").write_text(f"modalities: {text}\n")
    settings = load_dataset_settings(config, "D")
    assert (settings.image_modality, settings.segmentation_modalities) == (image, segmentations)


@pytest.mark.parametrize(("name", "ours"), [("sparse_mask", "priority"), ("region_mask", "regions")])
def test_the_seeds_name_of_a_strategy_is_accepted(config: Path, name: str, ours: str) -> None:
    (config / "dataset_D.yaml").write_text(f"mask_strategy: {name}\n")
    assert load_dataset_settings(config, "D").mask_strategy == ours


@pytest.mark.parametrize(
    ("rois", "settings", "words"),
    [
        ("A: a", "missing_structures: {B: absent}", ["dataset_D.yaml", "names B", "the ROI file names A"]),
        ("\n".join(f"S{n}: s{n}" for n in range(9)), "mask_strategy: regions", ["holds 8 structures"]),
    ],
)
def test_both_files_must_fit_together(config: Path, rois: str, settings: str, words: list[str]) -> None:
    (config / "roi_D.yaml").write_text(rois + "\n")
    (config / "dataset_D.yaml").write_text(settings + "\n")
    with pytest.raises(ConfigError) as caught:
        check_choices(config, "D")
    for word in words:
        assert word in str(caught.value)


def test_a_recipe_that_keeps_nothing_is_a_mistake(config: Path) -> None:
    assert load_deidentification(config) is None
    (config / "deidentification.yaml").write_text("keep: []\n")
    with pytest.raises(ConfigError, match="keep"):
        load_deidentification(config)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fold: 5", ["dataset_D.yaml", "fold:", "the keys are", "folds"]),
        ("night: {crom: '* * * * *'}", ["night.crom", "the keys are gpu_hours, jobs, cron"]),
        ("training: {early_stop: {patience: 3}}", ["training.early_stop.patience", "patience_epochs"]),
        (
            "send_to: [{name: v, dicomweb: 'http://p', image: true}]",
            ["send_to.0.image", "aet, images"],
        ),
        ("send_to: [{name: v}]", ["give either `dicomweb` or both `host` and `aet`"]),
        ("send_to: [{name: v, host: pacs}]", ["give either `dicomweb` or both `host` and `aet`"]),
        ("send_to: [{name: v, host: p, aet: 'A TITLE OF 17 CHR'}]", ["send_to.0.aet"]),
        ("send_to: [{name: v, host: p, aet: A}, {name: v, host: q, aet: B}]", ["a name of its own"]),
        ("codes: {GTV: {type: Tumour}}", ["codes.GTV.type", "is no SNOMED CT code; write it as"]),
        ("prediction: {outputs: []}", ["prediction.outputs"]),
        ("folds: 1", ["folds", "greater than or equal to 2"]),
        ("folds: many", ["folds", "integer"]),
        ("modalities: CT", ["modalities", "at least one of RTSTRUCT, SEG"]),
        ("modalities: PET,SEG", ["modalities", "'CT', 'MR', 'RTSTRUCT' or 'SEG'"]),
        ("mask_strategy: best", ["mask_strategy", "'label_image', 'priority' or 'regions'"]),
        ("missing_structures: {A: maybe}", ["missing_structures.A", "'error', 'absent' or 'unlabelled'"]),
        (
            "mask_strategy: regions\nmissing_structures: {A: unlabelled}",
            ["A cannot be `unlabelled` with mask_strategy `regions`", "label_image"],
        ),
        ("converter: imgtools", ["knows neither", "mask_strategy `priority`"]),
        ("converter: imgtools\nmask_strategy: priority", ["several ROIs of a structure", "`merge`"]),
        ("converter: plastimatch", ["converter", "'iterseg' or 'imgtools'"]),
        ("segmentation_precedence: '[('", ["segmentation_precedence", "is no pattern"]),
        ("arrival_quiet_s: -1", ["arrival_quiet_s"]),
        ("training: {epochs: 3}", ["training.epochs", "epochs_first"]),
        ("training: {device: gpu}", ["training.device", "'auto', 'cpu' or 'cuda'"]),
        ("test_share: 0.9", ["test_share", "0.5"]),
        ("plan_overrides: {patch_size: [8, 8]}", ["patch_size"]),
        ("folds: 5\nfolds: 3", ["'folds' stands twice"]),
        ("folds: [", ["is no YAML"]),
        ("- a\n- b", ["the file", "valid dictionary"]),
    ],
)
def test_mistakes_in_a_dataset_file(config: Path, text: str, words: list[str]) -> None:
    (config / "dataset_D.yaml").write_text(text + "\n")
    with pytest.raises(ConfigError) as caught:
        load_dataset_settings(config, "D")
    for word in words:
        assert word in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["roi_D.yaml does not exist", "GTV: GTV.*"]),
        ("", ["name at least one structure"]),
        ("GTV: '[('", ["GTV", "is no pattern"]),
        ("background: x", ["cannot be the name of a structure"]),
        ("GTV: 5", ["GTV"]),
        ("GTV: []", ["GTV"]),
        ("GTV: a\nGTV: b", ["stands twice"]),
        ("[a, b]: x", ["a key must be a word"]),
        ("'a\\b': x", ["cannot be the name of a structure"]),
        ("GTV: GTVp.*\nNode: GTV.*", ["a prediction of 'GTV' would come back as 'Node'"]),
    ],
)
def test_mistakes_in_a_roi_file(config: Path, text: str | None, words: list[str]) -> None:
    if text is not None:
        (config / "roi_D.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_rois(config, "D")
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_cluster_is_said_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="Clusters that do: local"):
        load_cluster(CHECKOUT / "config", "moon")


def test_a_clusters_name_is_no_path() -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a cluster"):
        load_cluster(CHECKOUT / "config", "../clusters/local")


def test_the_files_of_the_checkout_are_valid() -> None:
    config = CHECKOUT / "config"
    datasets, clusters = datasets_of(config), sorted(file.stem for file in config.glob("clusters/*.yaml"))
    assert datasets == ["demo_hippocampus", "hippocampus"]
    assert clusters == ["local", "slurm", "workstation"]
    for name in datasets:
        check_choices(config, name)
    for name in clusters:
        load_cluster(config, name)
    assert load_deidentification(CHECKOUT / "config") is not None
