"""The loop on real CTs: two iterations through the command line, against a real Prefect server.

Two patients are annotated and one is not; the third one's annotation arrives later. The network is of
test size: what is tested is that every part does what it says, not how well it segments.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from sarcoma_lab import PLANTED_ID, PLANTED_NAME, SARCOMA, Lab, deliver, stages
from tests_support import Answer

from tasks.dicom.headers import read_header
from tasks.dicom.image import read_series
from tasks.dicom.seg import SegObject
from tasks.ledger.files import read_json
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths

OF_THIS_LAB = {"flow_runs": {"name": {"like_": " STS "}}}
"""Other labs of the session use the server, too."""


@pytest.fixture(scope="module")
def predicted_folder(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """A folder that is called after a patient, with a copy of a slice and a file that is none."""
    folder = deliver(tmp_path_factory.mktemp("new"), "STS_025", "image")
    shutil.copy(sorted((folder / "image").iterdir())[0], folder / "a copy")
    (folder / "notes.txt").write_text("no DICOM")
    return lab.run("predict", "STS", "--input", str(folder), "--json")


def test_every_file_and_case_is_accounted_for(lab: Lab) -> None:
    report = lab.said["ingest 1"].report
    files = len(list(lab.scans.rglob("*.dcm")))
    assert files == 3 * len(lab.delivered("STS_025")) + 2, "and two RTSTRUCTs"
    assert report["files"] == {"taken": files, "duplicate": 0, "rejected": 0, "ignored": 0}
    assert report["totals"] == {"done": 2, "rejected": 0, "ignored": 1}


def test_the_first_iteration_trains_from_scratch(lab: Lab) -> None:
    """The original asserts on missing weights: bool("False") is True."""
    first = lab.models()["2026-11-22"]
    assert first["parent"] is None
    assert set(first["checkpoints"]) == {"0", "1"}


def test_a_model_names_all_that_it_came_from(lab: Lab) -> None:
    """Also in its card, which goes out with it: whoever imports it knows it again."""
    paths = DatasetPaths(lab.home, "STS")
    first, second = load_models(paths)
    assert (first.ancestors, second.ancestors) == ([], [first.digest])
    assert read_json(paths.latest / "model_card.json")["ancestors"] == [first.digest]


def test_labels_given_to_nnunet_equal_the_reference_masks(lab: Lab) -> None:
    labels = lab.iteration("2026-11-23") / "nnUNet_raw" / "Dataset001_2026-11-23__STS" / "labelsTr"
    found = sorted(int((sitk.GetArrayFromImage(sitk.ReadImage(str(f))) > 0).sum()) for f in labels.iterdir())
    references = SARCOMA / "reference_masks"
    expected = sorted(
        int((sitk.GetArrayFromImage(sitk.ReadImage(str(f))) > 0).sum())
        for f in references.glob("*_CT_mask.nii.gz")
    )
    assert found == expected


def test_latest_is_the_model_folder_with_every_fold_and_no_best_checkpoint(lab: Lab) -> None:
    """The original takes checkpoint_best, and drops folds beyond the number of its GPUs."""
    latest = lab.data / "results" / "STS" / "latest"
    assert latest.is_symlink()
    assert not latest.readlink().is_absolute()
    assert "nnUNet_results" in latest.resolve().parts
    assert lab.home / lab.models()["2026-11-23"]["folder"] == latest.resolve()
    names = {str(p.relative_to(latest)) for p in latest.rglob("*.pth")}
    assert names == {"fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth"}


def test_the_second_iteration_is_warm_with_the_same_plans_and_no_leak(lab: Lab) -> None:
    models = lab.models()
    first, second = models["2026-11-22"], models["2026-11-23"]
    assert second["parent"] == "2026-11-22"
    assert second["epochs"] == {"0": 1, "1": 1}
    records = [json.loads((lab.iteration(n) / "iteration.json").read_text()) for n in models]
    assert len({record["preparation"] for record in records}) == 1
    seen: dict[str, set[str]] = {"0": set(), "1": set()}
    for name, model in (("2026-11-22", first), ("2026-11-23", second)):
        cases = json.loads((lab.iteration(name) / "iteration.json").read_text())["cases"]
        for case in cases:
            assert case["patient"] not in seen[str(case["place"])]
        for fold in seen:  # its own, and its parent's
            seen[fold] |= {case["patient"] for case in cases if str(case["place"]) != fold}
        assert {fold: set(patients) for fold, patients in model["seen"].items()} == seen


def test_nnunet_is_given_the_folds_of_the_ledger(lab: Lab) -> None:
    for name in lab.models():
        at = lab.iteration(name)
        cases = json.loads((at / "iteration.json").read_text())["cases"]
        splits = json.loads(next(at.glob("nnUNet_preprocessed/*/splits_final.json")).read_text())
        assert len(splits) == 2
        for fold, split in enumerate(splits):
            own = {case["case_id"] for case in cases if case["place"] == fold}
            assert set(split["val"]) == own
            assert set(split["train"]) == {case["case_id"] for case in cases} - own


def test_nothing_new_is_said_at_once_and_trains_nothing(lab: Lab) -> None:
    report = lab.said["run again"].report
    assert (report["state"], report["stages"], report["model"]) == ("nothing new", [], "2026-11-22")
    runs = lab.server.post("/flow_runs/filter", {"limit": 200, **OF_THIS_LAB})
    assert "Nothing new" in {run["state_name"] for run in runs if run["name"].startswith("iterate")}
    assert set(lab.models()) == {"2026-11-22", "2026-11-23"}


def test_each_stage_by_itself_finds_its_work_done(lab: Lab) -> None:
    assert lab.run("prepare", "STS", "--json").report["reused"] is True
    assert lab.run("train", "STS", "--json").report["state"] == "nothing new"
    assert set(lab.models()) == {"2026-11-22", "2026-11-23"}


def test_the_seg_read_back_is_nnunets_array(lab: Lab) -> None:
    (row,) = (r for r in stages(lab.said["run 1"])["predict"]["cases"])
    assert row["state"] == "done"
    seg = SegObject(Path(row["label"]))
    images = lab.delivered("STS_025")
    volume = read_series(images)
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(row["label"].replace(".seg.dcm", ".nii.gz")))
    assert [segment.name for segment in seg.segments] == ["GTV"]
    assert (predicted == 1).any(), "a prediction of nothing is equal to any other"
    np.testing.assert_array_equal(seg.mask(seg.segments[0], volume.grid), predicted == 1)
    ds = pydicom.dcmread(row["label"])
    assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == read_header(images[0], str).series_instance_uid
    assert ds.PatientID == PLANTED_ID, "a SEG without its patient is lost in a PACS"


def test_the_python_api_predicts_what_the_flow_predicted(lab: Lab) -> None:
    from tasks.nnunet.predictor import Predictor

    (row,) = (r for r in stages(lab.said["run 1"])["predict"]["cases"])
    folder = lab.home / lab.models()["2026-11-22"]["folder"]
    predictor = Predictor(folder, device="cpu", mirroring=False)
    masks = predictor.predict_single_dicom(lab.delivered("STS_025")[0].parent)
    stored = sitk.ReadImage(row["label"].replace(".seg.dcm", ".nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(masks["GTV"]), sitk.GetArrayFromImage(stored) == 1)


def test_plain_nnunet_preprocessing_gives_the_same_arrays(lab: Lab) -> None:
    """Case by case into the store, or all at once by nnU-Net: equal arrays."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    name = "Dataset001_2026-11-22__STS"
    preprocessed = lab.iteration("2026-11-22") / "nnUNet_preprocessed" / name
    raw = lab.iteration("2026-11-22") / "nnUNet_raw" / name
    plans = PlansManager(str(preprocessed / "nnUNetPlans.json"))
    configuration = plans.get_configuration("3d_fullres")
    dataset = nnUNetDatasetBlosc2(str(preprocessed / configuration.data_identifier))
    assert len(dataset.identifiers) == 2
    for case_id in dataset.identifiers:
        data, seg, _, _ = dataset.load_case(case_id)
        expected, expected_seg, _ = configuration.preprocessor_class(verbose=False).run_case(
            [str(raw / "imagesTr" / f"{case_id}_0000.nii.gz")],
            str(raw / "labelsTr" / f"{case_id}.nii.gz"),
            plans,
            configuration,
            json.loads((preprocessed / "dataset.json").read_text()),
        )
        np.testing.assert_array_equal(data[:], expected.astype(np.float32))
        np.testing.assert_array_equal(seg[:], expected_seg)


def test_runs_have_telling_names_true_states_and_progress(lab: Lab) -> None:
    flows = lab.server.post("/flow_runs/filter", {"limit": 200, **OF_THIS_LAB})
    trained = [run for run in flows if re.fullmatch(r"train STS \d{4}-\d\d-\d\d", run["name"])]
    assert trained
    assert {run["state_type"] for run in flows} <= {"COMPLETED", "FAILED"}
    tasks = lab.server.post("/task_runs/filter", {"limit": 200, **OF_THIS_LAB})
    assert {"fold-0", "fold-1", "convert-1", "promote"} <= {run["name"] for run in tasks}
    artifacts = lab.server.post("/artifacts/filter", {"limit": 200})
    kinds = {(artifact["type"], artifact["key"]) for artifact in artifacts}
    tables = {key for kind, key in kinds if kind == "table"}
    assert {f"{stage}-sts" for stage in ("ingest", "prepare", "train", "predict", "iterate")} <= tables
    assert "ingest-files-sts" in tables
    progress = [a for a in artifacts if a["key"] == "fold-0-sts"]
    assert max(float(a["data"]) for a in progress) == 100.0
    assert any("cases, about 0 min left" in a["description"] for a in progress), "its validation is the last"
    predicted = [a for a in artifacts if a["key"] == "progress-predict-sts"]
    assert max(float(a["data"]) for a in predicted) == 100.0


def test_no_identity_leaves_the_raw_data(lab: Lab, predicted_folder: Answer) -> None:
    """But for the predicted objects, which carry the patient as every DICOM object must."""
    needles = [PLANTED_ID.encode(), PLANTED_NAME.encode(), b"Xyzzyson", b"STS_002", b"STS_019"]
    places = [lab.data / "procdata", lab.data / "results", lab.server.home]
    for file in (f for place in places for f in place.rglob("*") if f.is_file()):
        assert not any(needle.decode() in file.name for needle in needles)
        if file.name.endswith((".seg.dcm", ".rtstruct.dcm")):
            continue
        content = file.read_bytes()
        assert not any(needle in content for needle in needles), file
    for answer in [*lab.said.values(), predicted_folder]:
        assert not any(needle.decode() in answer.stdout + answer.stderr for needle in needles)


def test_the_report_shows_both_models(lab: Lab) -> None:
    page = (lab.data / "results" / "STS" / "report.html").read_text()
    assert "2026-11-22" in page
    assert "2026-11-23" in page


def test_a_store_that_the_backup_did_not_hold_is_made_again(lab: Lab) -> None:
    shutil.rmtree(lab.data / "procdata" / "STS" / "store")
    assert any(link.is_symlink() and not link.exists() for link in lab.iteration("2026-11-23").rglob("*"))
    assert lab.run("prepare", "STS", "--json").report["reused"] is True
    assert not [link for link in lab.iteration("2026-11-23").rglob("*") if not link.exists()]
