"""`iterseg withdraw` as people type it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_factory import ball, write_rois, write_series
from tests_support import PrefectServer, iterseg

from tasks.ledger.paths import DatasetPaths
from tasks.receive import InboxTransfers

SHAPE = (6, 20, 24)
GONE = "XYZZY-0815"


def test_a_patient_is_withdrawn_and_deleted_without_being_named(
    home: Path, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    series = write_series(tmp_path / "in" / GONE, SHAPE, patient=GONE)
    write_rois(tmp_path / "in" / "rt", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    env = prefect_server.environment
    taken = iterseg(home, "ingest", "D", "--from", str(tmp_path / "in"), "--json", **env)
    answer = iterseg(home, "withdraw", "D", "--patient", GONE, "--delete", "--json", **env)
    assert (answer.report["new"], answer.report["deleted"]["rawdata"]) == (True, 7)
    case_id = taken.report["cases"][0]["case_id"]
    assert taken.report["cases"][0]["state"] == "done"
    page = DatasetPaths(home, "D").report.read_text()
    assert "that do not count, such as withdrawn ones" in page
    assert case_id not in page + DatasetPaths(home, "D").worklist.read_text()
    wrong = iterseg(home, "withdraw", "D", "--patient", "nobody", **env)
    assert (wrong.returncode, "has no patient with this PatientID" in wrong.stderr) == (1, True)
    for said in (taken, answer):
        assert GONE not in said.stdout + said.stderr
    for root in (home / "data", prefect_server.home):
        assert not [p for p in root.rglob("*") if p.is_file() and GONE.encode() in p.read_bytes()]


def test_what_was_received_and_not_ingested_is_taken_by_the_next_ingest(
    home: Path, prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its patient can be withdrawn before."""
    paths = DatasetPaths(home, "D")
    for name, patient in (("one", GONE), ("two", "P-2")):
        transfers = InboxTransfers("D", deidentify=False)
        for file in write_series(tmp_path / name, SHAPE, name=name, patient=patient).files:
            transfers.store(name, file.read_bytes())
        transfers.end(name, whole=True)
    answer = iterseg(
        home, "withdraw", "D", "--patient", GONE, "--delete", "--json", **prefect_server.environment
    )
    assert answer.report["deleted"]["rawdata"] == 6
    taken = iterseg(home, "ingest", "D", "--json", **prefect_server.environment)
    assert taken.report["files"]["taken"] == 6
    assert not [p for p in paths.rawdata.rglob("*.dcm") if GONE.encode() in p.read_bytes()]
    other = iterseg(home, "withdraw", "D", "--patient", "P-2", **prefect_server.environment)
    assert (other.returncode, paths.report.exists()) == (0, False), "there is no ROI file to make pages of"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "--patient or --case"), (["--patient", "a", "--case", "b"], "not both")],
)
def test_it_is_a_patient_or_a_case(home: Path, arguments: list[str], words: str) -> None:
    answer = iterseg(home, "withdraw", "D", *arguments)
    assert (answer.returncode, words in answer.stderr) == (2, True)
    assert not DatasetPaths(home, "D").withdrawals.exists()
