"""`iterseg init`: the two YAML files of a dataset, from its DICOM, with or without a person to ask."""

from __future__ import annotations

import json
import os
import pty
import select
import sys
from pathlib import Path

import pytest
import yaml
from dicom_factory import ball, grid_for, write_rois, write_series
from tests_support import PrefectServer, iterseg

from tasks.settings.dataset import check_choices

SHAPE = (5, 16, 18)
TUMOUR, NODE = ball(SHAPE, (2, 5, 5), 2), ball(SHAPE, (2, 11, 11), 2)
NAMES = [["GTV", "Node"], ["gtv", "Node"], ["GTV_1"], ["GTV", "ring 1", "ring 2"]]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A home in which nobody has done anything."""
    root = tmp_path / "fresh"
    root.mkdir()
    return root


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """Four patients, whose tumours have three spellings."""
    folder = tmp_path / "incoming"
    for number, names in enumerate(NAMES):
        at = folder / str(number)
        ct = write_series(at / "ct", name=f"c{number}", patient=f"P{number}", grid=grid_for(SHAPE))
        write_rois(at / "rt.dcm", ct, dict(zip(names, [TUMOUR, NODE, NODE], strict=False)), name=f"r{number}")
    (folder / "readme.txt").write_text("from the archive")
    return folder


def written(home: Path) -> tuple[dict[str, str], dict[str, object]]:
    check_choices(home / "config", "D")
    return (
        yaml.safe_load((home / "config" / "roi_D.yaml").read_text()),
        yaml.safe_load((home / "config" / "dataset_D.yaml").read_text()),
    )


def test_what_half_of_the_cases_have_is_taken_without_asking(fresh: Path, incoming: Path) -> None:
    answer = iterseg(fresh, "init", "D", "--look", str(incoming), "--yes")
    assert answer.returncode == 0, answer.stderr
    rois, choices = written(fresh)
    assert rois == {"GTV": r"GTV[ _.-]*\d*", "Node": "Node"}
    assert choices == {"modalities": "CT,RTSTRUCT,SEG", "folds": 2}
    assert "no-dicom: 1 files" in answer.stdout
    assert "GTV (2), gtv (1), GTV_1 (1)" in answer.stdout
    assert "Node: 2 segmentations lack it and will be rejected" in answer.stdout
    assert f"next: iterseg ingest D --from {incoming}" in answer.stdout
    assert "not learned: ring 1 (1), ring 2 (1)" in answer.stdout
    assert "learns on CT, in 2 folds, which stay for ever" in answer.stdout


def test_what_it_wrote_is_what_ingest_and_prepare_take(
    fresh: Path, incoming: Path, prefect_server: PrefectServer
) -> None:
    server = prefect_server.environment
    iterseg(fresh, "init", "D", "--look", str(incoming), "--structure", "GTV=GTV.*")
    assert iterseg(fresh, "ingest", "D", "--from", str(incoming), **server).returncode == 0
    report = iterseg(fresh, "prepare", "D", "--convert-only", "--json", **server).report
    assert report["totals"] == {"done": 4, "rejected": 0, "ignored": 0}, report


def test_flags_say_all(fresh: Path) -> None:
    options = [
        "--modality",
        "mr",
        "--structure",
        "Liver=Leber|liver",
        "--structure",
        "GTV=GTV.*",
        "--folds",
        "3",
    ]
    answer = iterseg(fresh, "init", "D", *options, "--merge", "--json")
    rois, choices = written(fresh)
    assert list(rois.items()) == [("Liver", "Leber|liver"), ("GTV", "GTV.*")]
    assert choices == {"modalities": "MR,RTSTRUCT,SEG", "folds": 3, "several_rois": "merge"}
    assert [Path(path).name for path in answer.report["written"]] == [
        *("dataset_D.yaml", "roi_D.yaml", "deidentification.yaml"),
        *("local.yaml", "workstation.yaml", "slurm.yaml"),
    ]
    assert iterseg(fresh, "doctor", "--json").returncode == 0


def test_a_person_is_asked_on_a_terminal(fresh: Path, incoming: Path) -> None:
    """With a wrong answer each, which is asked again."""
    answers = ["9", "1,2", "Tumour", "", "maybe", "absent"]
    said = on_a_terminal(fresh, ["init", "D", "--look", str(incoming)], answers)
    rois, choices = written(fresh)
    assert rois == {"Tumour": r"GTV[ _.-]*\d*", "Node": "Node"}
    assert choices["missing_structures"] == {"Node": "absent"}
    assert "numbers from 1 to 4, each once" in said
    assert "one of error, absent, unlabelled" in said


def on_a_terminal(home: Path, arguments: list[str], answers: list[str]) -> str:
    """Type an answer whenever the command has said nothing for a while; one that comes early waits."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["ITERSEG_HOME"] = str(home)
        os.execv(sys.executable, [sys.executable, "-m", "flows.cli", *arguments])
    said = b""
    while True:
        ready, _, _ = select.select([terminal], [], [], 60 if not said else 0.5)
        try:
            part = os.read(terminal, 4096) if ready else b""
        except OSError:  # its end
            break
        if not part and not answers:
            break
        if part:
            said += part
        else:
            os.write(terminal, f"{answers.pop(0)}\n".encode())
    os.waitpid(pid, 0)
    os.close(terminal)
    assert not answers, said.decode()
    return said.decode()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 2, "give --look FOLDER, or --structure NAME=PATTERN"),
        (["--look", "{home}/absent"], 2, "no such folder"),
        (["--look", "{home}"], 2, "there is no terminal to ask on; add --yes"),
        (["--look", "{home}", "--yes"], 1, "there is no CT or MR image"),
        (["--look", "{images}", "--yes"], 1, "no CT image has a segmentation"),
        (["--structure", "GTV"], 2, "write NAME=PATTERN"),
        (["--structure", "GTV=("], 2, "is no pattern"),
        (["--structure", "background=.*"], 2, "cannot be the name of a structure"),
        (["--structure", "a=b", "--structure", "a=c"], 2, "each structure stands once"),
        (["--structure", "a=b", "--modality", "PET"], 2, "CT or MR"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    fresh: Path, tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    (fresh / "x.txt").write_text("x")
    write_series(tmp_path / "images" / "ct", grid=grid_for(SHAPE))
    places = {"home": fresh, "images": tmp_path / "images"}
    answer = iterseg(fresh, "init", "D", *(part.format(**places) for part in options))
    assert (answer.returncode, len(answer.stderr.strip().splitlines())) == (code, 1), answer.stderr
    assert words in answer.stderr
    assert not (fresh / "config").exists()


@pytest.mark.parametrize("existing", ["roi_D.yaml", "dataset_D.yaml"])
def test_a_choice_that_exists_is_never_replaced(fresh: Path, existing: str) -> None:
    (fresh / "config").mkdir()
    (fresh / "config" / existing).write_text("GTV: mine\n")
    answer = iterseg(fresh, "init", "D", "--structure", "GTV=GTV.*")
    assert answer.returncode == 2
    assert f"{existing} exists" in answer.stderr
    assert [path.name for path in (fresh / "config").iterdir()] == [existing]


def test_json_is_one_object(fresh: Path, incoming: Path) -> None:
    answer = iterseg(fresh, "init", "D", "--look", str(incoming), "--yes", "--json")
    assert json.loads(answer.stdout)["structures"][0]["found_in"] == 4


def test_what_cannot_work_yet_is_said(fresh: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Made-Up, Jane"
    ct = write_series(folder / "ct", grid=grid_for(SHAPE))
    write_rois(folder / "rt.dcm", ct, {"GTV": TUMOUR})
    said = iterseg(fresh, "init", "D", "--look", str(folder), "--yes").stdout
    assert "! 1 patients are annotated" in said
    assert f"--from '{folder}'" in said, "it can be pasted"
    said = iterseg(fresh, "init", "E", "--look", str(folder), "--modality", "MR", "--structure", "a=b").stdout
    assert "! the folder has no MR image" in said
