"""Mistakes of a user: one line that says what is wrong, where, and what to do; no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from dicom_factory import ball, write_rois, write_series
from tests_support import PrefectServer, iterseg

from flows.cli import app
from tasks.dicom.reasons import NOTHING_DRAWN
from tasks.ledger.lock import dataset_lock
from tasks.ledger.paths import DatasetPaths

SHAPE = (6, 20, 24)


@pytest.fixture
def lab(home: Path) -> Path:
    """A home with one ingested-by-hand dataset of one labelled CT."""
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV.*\n")
    (home / "config" / "dataset_D.yaml").write_text("folds: 2\ntest_share: 0\narrival_quiet_s: 0\n")
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series = write_series(folder / "ct", SHAPE)
    write_rois(folder / "rt.dcm", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    (home / "empty").mkdir()
    (home / "notes").mkdir()
    (home / "notes" / "a.txt").write_text("no DICOM")
    return home


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["prepare", "X"], 2, ["no dataset 'X'", "there are: D", "iterseg init X", "iterseg ingest X"]),
        (
            ["ingest", "X", "--from", "{home}/notes"],
            2,
            ["begun a dataset 'X'", "are: D", "iterseg init X"],
        ),
        (["receive", "X", "--allow", "PACS"], 2, ["begun a dataset 'X'"]),
        (["ingest", "D", "--from", "{home}/notes", "--date", "2999-01-01"], 2, ["of a day to come"]),
        (["status", "X"], 2, ["no dataset 'X'"]),
        (["run", "X"], 2, ["no dataset 'X'"]),
        (["prepare", "../D"], 2, ["cannot be a dataset id"]),
        (["prepare", "D", "--date", "yesterday"], 2, ["YYYY-MM-DD"]),
        (["train", "D", "--folds", "a,b"], 2, ["0,1,2"]),
        (["train", "D", "--cluster", "moon"], 2, ["moon.yaml does not exist"]),
        (["ingest", "D", "--from", "{home}/absent"], 2, ["no such folder"]),
        (["ingest", "D", "--deidentify"], 2, ["of --from or --dicomweb"]),
        (["plan", "D", "--new-lineage", "--why", "x" * 201], 2, ["at most 200 characters"]),
        (["ingest", "D", "--from", "{home}/empty"], 1, ["holds no files"]),
        (["predict", "D", "--input", "{home}/absent"], 2, ["no such folder"]),
    ],
)
def test_mistakes_that_are_seen_before_anything_starts(
    lab: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    answer = iterseg(lab, *(part.format(home=lab) for part in arguments))
    assert answer.returncode == code
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    for word in words:
        assert word in answer.stderr
    assert answer.stdout == ""
    assert not (lab / "prefect").exists()
    assert not (lab / "data" / "procdata").exists()


@pytest.mark.parametrize("broken", ["roi_D.yaml", "dataset_D.yaml"])
def test_a_wrong_file_is_named(lab: Path, broken: str) -> None:
    (lab / "config" / broken).write_text("folds: {")
    answer = iterseg(lab, "prepare", "D")
    assert answer.returncode == 2
    assert f"{broken} is no YAML" in answer.stderr


def test_a_missing_roi_file_is_said_with_what_to_write(lab: Path) -> None:
    (lab / "config" / "roi_D.yaml").unlink()
    answer = iterseg(lab, "prepare", "D")
    assert answer.returncode == 2
    assert "GTV: GTV.*" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["prepare", "D", "--date", "1999-01-01"], 1, ["no data up to 1999-01-01"]),
        (["prepare", "D", "--date", "2099-01-01"], 1, ["no snapshot of 2099-01-01", "2026-11-20"]),
        (["prepare", "D"], 1, ["2 folds need a patient each"]),
        (["train", "D"], 1, ["no prepared iteration", "iterseg prepare D"]),
        (["predict", "D"], 1, ["no model yet", "iterseg train D"]),
        (["predict", "D", "--model", "2020-01-01"], 1, ["no model '2020-01-01'"]),
    ],
)
def test_mistakes_that_the_flow_finds(
    lab: Path, prefect_server: PrefectServer, arguments: list[str], code: int, words: list[str]
) -> None:
    answer = iterseg(lab, *arguments, **prefect_server.environment)
    assert answer.returncode == code, answer.stderr
    for word in words:
        assert word in answer.stderr
    assert "Traceback" not in answer.stdout + answer.stderr
    assert "Still processing" not in answer.stderr
    assert not (lab / "data" / "results" / "D" / "latest").exists()


def test_a_folder_without_dicom_makes_no_snapshot(lab: Path, prefect_server: PrefectServer) -> None:
    answer = iterseg(lab, "ingest", "D", "--from", str(lab / "notes"), "--json", **prefect_server.environment)
    assert answer.returncode == 0
    assert answer.report["files"]["ignored"] == 1
    assert answer.report["reasons"] == {"no-dicom": 1}
    assert answer.report["snapshots"] == ["2026-11-20__D"]


def test_no_usable_case_fails_and_says_why(lab: Path, prefect_server: PrefectServer) -> None:
    """The original prints its errors and exits 0, so that the training starts."""
    (lab / "config" / "roi_D.yaml").write_text("Heart: heart\n")
    answer = iterseg(lab, "prepare", "D", "--json", **prefect_server.environment)
    assert answer.returncode == 1
    assert answer.report["error"] == "UserDataError"
    assert "1 missing-roi" in answer.report["message"]
    assert [(case["state"], case["reason"]) for case in answer.report["cases"]] == [
        ("rejected", "missing-roi")
    ]


def test_neither_roi_names_nor_paths_tell_who_it_is(lab: Path, prefect_server: PrefectServer) -> None:
    """What a case is rejected for goes to Prefect's database and to the report."""
    folder = lab / "data" / "rawdata" / "D" / "2026-11-21__D" / "Plugh^Xyzzyson"
    ct = {"patient": "XYZZY-0815", "change": lambda _, ds: setattr(ds, "PatientName", "Plugh^Xyzzyson")}
    named = write_series(folder / "a", SHAPE, name="a", **ct)
    write_rois(folder / "a.rt", named, {"XYZZY-0815 Xyzzyson tumour": ball(SHAPE, (3, 8, 8), 3)}, name="a.rt")
    lost = write_series(folder / "b", SHAPE, name="b", **ct)
    write_rois(folder / "b.rt", lost, {"GTV": ball(SHAPE, (3, 8, 8), 3)}, name="b.rt")
    env = prefect_server.environment
    assert iterseg(lab, "ingest", "D", **env).returncode == 0
    folder.parent.chmod(0o755)
    lost.files[0].parent.chmod(0o755)
    lost.files[0].unlink()
    answer = iterseg(lab, "prepare", "D", "--convert-only", "--json", **env)
    assert answer.returncode == 0, "the good case goes on"
    fates = {case["series_instance_uid"]: case for case in answer.report["cases"]}
    assert fates[lost.uids["series"]]["reason"] == "changed-after-sealing"
    assert fates[named.uids["series"]]["detail"].endswith("the ROIs are '[removed] [removed] tumour'")
    for secret in ("XYZZY-0815", "Xyzzyson"):
        assert secret not in answer.stdout + answer.stderr
        files = [p for p in prefect_server.home.rglob("*") if p.is_file()]
        assert not [p for p in files if secret.encode() in p.read_bytes()]


def test_a_case_in_which_nothing_was_drawn_is_told(lab: Path, prefect_server: PrefectServer) -> None:
    """It may be a patient without the disease, or a name that is spelt otherwise."""
    (lab / "config" / "roi_D.yaml").write_text("Tumour: Tumour\n")
    (lab / "config" / "dataset_D.yaml").write_text(
        "arrival_quiet_s: 0\nfolds: 2\nmissing_structures: {Tumour: absent}\n"
    )
    answer = iterseg(lab, "prepare", "D", "--convert-only", **prefect_server.environment)
    assert answer.returncode == 0, answer.stderr
    assert f": {NOTHING_DRAWN}\n  is that so? an ROI that no pattern matches looks the same" in answer.stdout


def test_convert_only_tells_the_fate_of_every_case(lab: Path, prefect_server: PrefectServer) -> None:
    folder = lab / "data" / "rawdata" / "D" / "2026-11-20__D"
    write_series(folder / "unlabelled", SHAPE, name="two", patient="P-2")
    series = write_series(folder / "bad", SHAPE, name="three", patient="P-3")
    write_rois(folder / "bad.dcm", series, {"Heart": ball(SHAPE, (3, 8, 8), 3)}, name="bad")
    lost = write_series(lab / "lost", SHAPE, name="four", patient="P-4")
    write_rois(folder / "lost.dcm", lost, {"GTV": ball(SHAPE, (3, 8, 8), 3)}, name="lost")
    answer = iterseg(lab, "prepare", "D", "--convert-only", "--json", **prefect_server.environment)
    assert answer.returncode == 0, answer.stderr
    fates = sorted((c["state"], c["reason"] or "") for c in answer.report["cases"])
    assert fates == [
        ("done", ""),
        ("ignored", "unlabelled"),
        ("rejected", "missing-roi"),
        ("rejected", "reference-absent"),
    ]
    assert answer.report["totals"] == {"done": 1, "rejected": 2, "ignored": 1}
    for case in answer.report["cases"]:
        done = case["state"] == "done"
        assert (case["image"] is not None) == (case["label"] is not None) == done
        assert not done or (Path(case["image"]).is_file() and Path(case["label"]).is_file())
    converted = Path(answer.report["converted"])
    assert len(list((converted / "labelsTr").glob("*.nii.gz"))) == 1

    later = iterseg(lab, "status", "D", "--json").report
    assert (later["totals"], later["account"]["new"]) == (answer.report["totals"], 1), "it is not forgotten"
    (lab / "config" / "roi_D.yaml").write_text("GTV: [GTV, Heart]\n")
    assert iterseg(lab, "status", "D", "--json").report["totals"]["done"] == 2, "by other choices it is open"


@pytest.mark.parametrize("command", [["--help"], ["status", "D"], ["train", "--help"]])
def test_what_runs_no_flow_loads_neither_prefect_nor_torch(lab: Path, command: list[str]) -> None:
    """Loading them takes seconds; without them a command answers in under one."""
    code = (
        "import sys; from flows.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('loaded:', sorted({'prefect', 'torch', 'dask', 'imgtools', 'highdicom'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        capture_output=True,
        text=True,
        check=True,
        env={**__import__("os").environ, "ITERSEG_HOME": str(lab)},
    )
    assert "loaded: []" in done.stdout


def test_preparing_loads_nothing_that_only_predictions_need() -> None:
    """A night with ten new scans is short: each of these takes a tenth of it to load, torch more."""
    others = {"torch", "imgtools", "highdicom", "scipy"}
    code = f"import sys, flows.prepare; print('loaded:', sorted({others} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded: []" in done.stdout


def test_two_commands_tell_the_fate_of_every_file_and_series(
    lab: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    delivery = tmp_path / "in"
    good = write_series(delivery / "good", SHAPE, name="good")
    write_rois(delivery / "good.rt", good, {"GTV": ball(SHAPE, (3, 8, 8), 3)}, name="good.rt")
    gap = write_series(delivery / "gap", SHAPE, name="gap")
    write_rois(delivery / "gap.rt", gap, {"GTV": ball(SHAPE, (3, 8, 8), 3)}, name="gap.rt")
    gap.files[2].unlink()
    write_series(delivery / "mr", SHAPE, name="mr", kind="MR")
    (delivery / "notes.txt").write_text("no DICOM")
    (delivery / "broken.dcm").write_bytes(b"DICM")
    env = prefect_server.environment
    ingested = iterseg(lab, "ingest", "D", "--from", str(delivery), "--json", **env).report
    # Of the folder that was filled by hand, and of the delivery.
    files = [p for p in [*delivery.rglob("*"), *lab.rglob("2026-11-20__D/**/*")] if p.is_file()]
    assert len(ingested["rows"]) == sum(ingested["files"].values()) == len(files) - 1  # the manifest
    assert all(row["reason"] for row in ingested["rows"] if row["state"] in ("rejected", "ignored"))
    series = {row["series_instance_uid"] for row in ingested["rows"]} - {None}
    prepared = iterseg(lab, "prepare", "D", "--convert-only", "--json", **env).report
    fates = {row["series_instance_uid"]: (row["state"], row["reason"]) for row in prepared["cases"]}
    drawn = {row["series_instance_uid"] for row in ingested["rows"] if row["kind"] == "RTSTRUCT"}
    # A segmentation that became its image's label is told with it; any other has a row of its own.
    assert series - drawn <= fates.keys()
    assert fates[good.uids["series"]] == ("done", None)
    used = {row["segmentation"] for row in prepared["cases"] if row["state"] == "done"}
    assert used < {row["sop_instance_uid"] for row in ingested["rows"] if row["kind"] == "RTSTRUCT"}
    assert fates[gap.uids["series"]] == ("rejected", "uneven-slices")
    assert sorted(map(str, fates.values())).count("('ignored', 'other-modality')") == 1
    assert prepared["totals"] == {"done": 2, "rejected": 1, "ignored": 1}


@pytest.mark.parametrize("name", sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]
def test_every_command_shows_an_example(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert f"Example: iterseg {name}" in command.help
    assert all(parameter.help for parameter in command.params)


@pytest.mark.parametrize("arguments", [["--help"], ["init", "--help"], ["doctor"], ["status", "D"]])
def test_what_is_piped_is_plain_and_help_fits_a_narrow_terminal(lab: Path, arguments: list[str]) -> None:
    answer = iterseg(lab, *arguments, COLUMNS="60", TERM="xterm-256color")
    assert "\x1b" not in answer.stdout + answer.stderr
    if "--help" in arguments:
        assert max(map(len, answer.stdout.splitlines())) <= 60


def test_the_version_is_told() -> None:
    answer = iterseg(Path.cwd(), "--version")
    assert answer.stdout.startswith("iterseg 0.")


def test_a_server_that_does_not_answer_is_told_in_a_line(lab: Path) -> None:
    answer = iterseg(lab, "prepare", "D", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert "Prefect's server at http://127.0.0.1:9/api does not answer" in line
    assert "prefect config unset PREFECT_API_URL" in line


def test_a_folder_of_a_day_to_come_is_not_taken(lab: Path, prefect_server: PrefectServer) -> None:
    write_series(lab / "data" / "rawdata" / "D" / "2999-01-01__D" / "ct", SHAPE, name="later")
    answer = iterseg(lab, "ingest", "D", **prefect_server.environment)
    assert answer.returncode == 2
    assert "the folder 2999-01-01__D: a delivery cannot be of a day to come" in answer.stderr


def test_a_folder_that_is_called_otherwise_is_told_and_not_named(lab: Path) -> None:
    folder = lab / "data" / "rawdata" / "E" / "Xyzzyson_2026-11-20"
    folder.mkdir(parents=True)
    (lab / "config" / "roi_E.yaml").write_text("GTV: GTV\n")
    answer = iterseg(lab, "status", "E")
    assert "there are: D." in answer.stderr
    assert "is called <YYYY-MM-DD>__E; 1 there are not" in answer.stderr
    assert "Xyzzyson" not in answer.stderr, "it may be a patient's, and goes to Prefect's database"


def test_who_works_on_a_dataset_is_in_its_status(lab: Path, prefect_server: PrefectServer) -> None:
    assert iterseg(lab, "ingest", "D", **prefect_server.environment).returncode == 0
    with dataset_lock(DatasetPaths(lab, "D").lock_folder):
        assert f"a run is going on: process {os.getpid()}" in iterseg(lab, "status", "D").stdout
    assert "a run is going on" not in iterseg(lab, "status", "D").stdout


def test_what_is_wrong_with_each_case_is_said_where_none_can_be_used(
    lab: Path, prefect_server: PrefectServer
) -> None:
    (lab / "config" / "roi_D.yaml").write_text("Liver: Liver\n")
    answer = iterseg(lab, "prepare", "D", **prefect_server.environment)
    assert answer.returncode == 1
    assert "missing-roi: nothing matches 'Liver'; the ROIs are 'GTV'" in answer.stderr
    assert "Draw it, mend its pattern" in answer.stderr
    assert answer.stderr.strip().splitlines()[-1].startswith("error: no case of D can be used")


def test_the_job_scripts_are_json_too(lab: Path) -> None:
    slurm = "kind: slurm\nwalltime: '1:00:00'\ncpus: 1\nmemory_gb: 1\nworkers: 1\n"
    (lab / "config" / "clusters" / "s.yaml").write_text(slurm)
    report = iterseg(lab, "doctor", "--cluster", "s", "--dry-run", "--json").report
    assert sorted(report["scripts"]) == ["predict", "prepare", "train"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"dataset_id": "X", "source": "{home}/notes"}, "nobody has begun a dataset 'X'"),
        ({"dataset_id": "D", "source": "{home}/notes", "date": "2999-01-01"}, "of a day to come"),
    ],
)
def test_a_form_of_the_ui_is_held_to_the_same(
    lab: Path, prefect_server: PrefectServer, parameters: dict[str, str], words: str
) -> None:
    """A deployment calls the flow itself."""
    given = {name: value.format(home=lab) for name, value in parameters.items()}
    code = f"from flows.ingest import ingest; ingest(**{given!r})"
    env = {**os.environ, **prefect_server.environment, "ITERSEG_HOME": str(lab)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert not (lab / "data" / "rawdata" / "X").exists()
