"""A model goes to plain nnU-Net and predicts the same; one that comes from there begins a lineage."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_lab
from sarcoma_lab import PLANTED_ID, SETTINGS, Lab, stages
from tests_support import iterseg

from tasks.nnunet.predictor import Predictor

FOLDER = "Dataset001_STS/nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture(scope="module")
def exported(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("out") / "m.zip"
    answer = lab.run("export", "STS", "--to", str(file), "--json")
    assert answer.returncode == 0, answer.stderr
    assert answer.report["model"] == "2026-11-23"
    return file


@pytest.fixture(scope="module")
def image(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of a CT, of a few patches."""
    whole = sitk.ReadImage(next((lab.data / "procdata" / "STS" / "store").glob("*/image-*.nii.gz")))
    file = tmp_path_factory.mktemp("part") / "x_0000.nii.gz"
    sitk.WriteImage(whole[40:104, 40:104, :24], file)
    return file


def test_the_file_tells_no_path_no_case_and_no_patient(lab: Lab, exported: Path) -> None:
    records = lab.models()["2026-11-23"]
    patients = {patient for seen in records["seen"].values() for patient in seen}
    cases = {p.name for p in (lab.data / "procdata" / "STS" / "store").iterdir()}
    needles = [str(lab.home), "/tmp", PLANTED_ID, *patients, *cases]
    with zipfile.ZipFile(exported) as content:
        for member in content.namelist():
            told = member.encode() + content.read(member)
            assert not [needle for needle in needles if needle.encode() in told], member
        assert f"{FOLDER}/model_card.md" in content.namelist()


def test_the_same_model_gives_the_same_file(lab: Lab, exported: Path) -> None:
    again = lab.run("export", "STS", "--json")
    assert Path(again.report["file"]).read_bytes() == exported.read_bytes()


def test_plain_nnunet_installs_it_and_predicts_the_same(
    lab: Lab, exported: Path, image: Path, tmp_path: Path
) -> None:
    for name in ("raw", "preprocessed", "results", "in", "out"):
        (tmp_path / name).mkdir()
    shutil.copy(image, tmp_path / "in")
    env = {**os.environ, "nnUNet_def_n_proc": "1"}
    env |= {f"nnUNet_{name}": str(tmp_path / name) for name in ("raw", "preprocessed", "results")}
    programs = Path(sys.executable).parent
    predict = f"nnUNetv2_predict -i {tmp_path / 'in'} -o {tmp_path / 'out'} -d 1 -c 3d_fullres -f 0 1"
    predict += " -chk checkpoint_final.pth --disable_tta -device cpu -npp 1 -nps 1"
    commands = [["nnUNetv2_install_pretrained_model_from_zip", str(exported)], predict.split()]
    for command in commands:
        done = subprocess.run(
            [programs / command[0], *command[1:]], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "x.nii.gz")))
    predictor = Predictor(lab.data / "results" / "STS" / "latest", device="cpu", mirroring=False)
    ours = predictor.predict_label_map(sitk.ReadImage(str(image)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), theirs)


def test_a_lab_begins_with_its_predictions_and_learns_from_it(
    lab: Lab, exported: Path, image: Path, tmp_path: Path
) -> None:
    """No ROI file, no label: the model's own structures, under another name."""
    home = tmp_path / "home"
    (home / "config").mkdir(parents=True)
    (home / "config" / "dataset_N.yaml").write_text(SETTINGS)
    env = lab.server.environment
    taken = iterseg(home, "import", "N", str(exported), "--map", "GTV=Tumour", "--json", **env)
    assert taken.returncode == 0, taken.stderr
    model = taken.report["model"]
    assert (taken.report["structures"], taken.report["in_use"]) == (["Tumour"], True)
    assert (home / "config" / "roi_N.yaml").read_text().splitlines()[1] == '"Tumour": "Tumour"'
    again = iterseg(home, "import", "N", str(exported), "--map", "GTV=Tumour", "--json", **env)
    assert (again.report["new"], again.report["model"]) == (False, model)

    # Its predictions are those of the model that was exported.
    ours = Predictor(home / "data" / "results" / "N" / "latest", device="cpu", mirroring=False)
    theirs = Predictor(lab.data / "results" / "STS" / "latest", device="cpu", mirroring=False)
    arrays = [
        sitk.GetArrayFromImage(predictor.predict_label_map(sitk.ReadImage(str(image))))
        for predictor in (ours, theirs)
    ]
    np.testing.assert_array_equal(*arrays)

    # Before anything was ingested it predicts what it is shown.
    scans = tiny_lab.new_home(tmp_path / "scans") / "data" / "rawdata" / "D"
    tiny_lab.deliver(scans.parents[2], 22, labelled=0)
    shown = iterseg(home, "predict", "N", "--input", str(scans), "--json", **env)
    assert (shown.returncode, shown.report["totals"]["done"]) == (0, 1), shown.stderr
    assert Path(shown.report["cases"][0]["label"]).is_file()
    assert shown.report["report"] is None

    (home / "config" / "roi_N.yaml").write_text("Tumour: GTV.*\n")
    tiny_lab.deliver(scans.parents[2], 23, unlabelled=0)
    ingested = iterseg(home, "ingest", "N", "--from", str(scans), "--json", **env)
    assert ingested.returncode == 0, ingested.stderr
    ran = iterseg(home, "run", "N", "--json", **env)
    assert ran.returncode == 0, ran.stderr
    assert stages(ran)["predict"]["totals"]["done"] == 1
    trained = stages(ran)["train"]
    assert (trained["parent"], trained["compared_with"], trained["basis"]) == (
        model,
        model,
        "cross-validation",
    )
    assert trained["verdicts"][0]["cases"] == 2, "the imported model was scored on what it has not seen"
    status = iterseg(home, "status", "N", "--verify", "--json", **env).report
    assert status["verified"]["findings"] == []
    assert "from elsewhere" in iterseg(home, "models", "N", **env).stdout


class _Harm:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["code", "other weights", "cut"])
def test_weights_that_are_no_weights_are_refused_and_nothing_of_them_stays(
    lab: Lab, exported: Path, tmp_path: Path, kind: str
) -> None:
    import torch

    home, mark = tmp_path / "home", tmp_path / "harm"
    (home / "config").mkdir(parents=True)
    (home / "config" / "dataset_N.yaml").write_text(SETTINGS)
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(bad, "w") as target:
        for member in source.namelist():
            content = source.read(member)
            if member.endswith("fold_1/checkpoint_final.pth"):
                if kind == "code":
                    content = pickle.dumps({"network_weights": _Harm(mark)})
                elif kind == "cut":
                    content = content[: len(content) // 2]
                else:
                    torch.save({"network_weights": {"a": torch.zeros(1)}}, tmp_path / "w.pth")
                    content = (tmp_path / "w.pth").read_bytes()
            target.writestr(member, content)
    answer = iterseg(home, "import", "N", str(bad), **lab.server.environment)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert ("do not fit" if kind == "other weights" else "cannot be used") in answer.stderr
    assert not mark.exists()
    assert not (home / "data" / "results" / "N" / "latest").exists()
    assert not list((home / "data" / "procdata" / "N").glob("imported/*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import", "STS", "absent.zip"], "no such file"),
        (["predict", "STS", "--triage", "--model", "2026-11-22"], "by the model in use"),
        (["import", "STS", "{zip}", "--map", "GTV"], "write THEIRS=OURS"),
        (["export", "STS", "--to", "m.tar"], "give the name of a .zip file"),
        (["export", "STS", "--to", "/absent/m.zip"], "in a folder that exists"),
    ],
)
def test_mistakes_are_said_before_anything_starts(
    lab: Lab, exported: Path, arguments: list[str], words: str
) -> None:
    answer = lab.run(*(part.format(zip=exported) for part in arguments))
    assert (answer.returncode, words in answer.stderr) == (2, True), answer.stderr
