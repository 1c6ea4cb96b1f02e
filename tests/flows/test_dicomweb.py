"""Series from a real DICOMweb server: whole or not there, without their identity, and only what is new."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom_factory import Series, ball, edit, write_rois, write_series
from dicom_network import ACCESS, Orthanc, require_orthanc
from tests_support import Answer, PrefectServer

SHAPE = (6, 20, 24)
MASK = ball(SHAPE, (3, 8, 8), 3)
URL = Orthanc.DICOMWEB


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require_orthanc()
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture(scope="module")
def series(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Series:
    """Two CTs of a made-up patient are on the server, one with an RTSTRUCT, and a plain picture."""
    root = tmp_path_factory.mktemp("scans")
    first = write_series(root / "ct", SHAPE, patient="XYZZY-0815")
    write_series(root / "other", SHAPE, name="other", patient="XYZZY-0815")
    write_rois(root / "rt.dcm", first, {"GTV": MASK})
    capture = write_series(root / "capture", (1, 20, 24), name="capture").files[0]
    edit(capture, lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"))
    edit(capture, lambda ds: setattr(ds, "Modality", "OT"))
    orthanc.upload([path for path in sorted(root.rglob("*")) if path.is_file()])
    return first


@pytest.fixture
def lab(home: Path) -> Path:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    recipe = Path(__file__).parents[2] / "config" / "deidentification.yaml"
    (home / "config" / recipe.name).write_text(recipe.read_text())
    return home


def ingest(orthanc: Orthanc, home: Path, *arguments: str, **environment: str) -> Answer:
    """Run the command in Orthanc's network."""
    env = {**os.environ, "ITERSEG_HOME": str(home), **orthanc.prefect.environment, **environment}
    command = [sys.executable, "-m", "flows.cli", "ingest", "D", "--dicomweb", URL, "--json", *arguments]
    done = subprocess.run(
        orthanc.inside(*command), capture_output=True, text=True, env=env, check=False, timeout=300
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def test_everything_that_is_new_is_fetched_without_its_identity(
    orthanc: Orthanc, series: Series, lab: Path
) -> None:
    answer = ingest(orthanc, lab, **ACCESS)
    assert answer.returncode == 0, answer.stderr
    assert answer.report["retrieved"] == {"series": {"fetched": 3, "other modality": 1}, "refused": {}}
    assert answer.report["files"]["taken"] == 13
    assert answer.report["totals"] == {"done": 1, "rejected": 0, "ignored": 1}
    kept = [p for p in (lab / "data").rglob("*") if p.is_file()]
    assert not [p for p in kept if b"XYZZY" in p.read_bytes()]
    history = [p for p in orthanc.prefect.home.rglob("*") if p.is_file()]
    assert history
    assert not [p for p in history if b"XYZZY" in p.read_bytes()]
    assert "XYZZY" not in answer.stdout + answer.stderr

    again = ingest(orthanc, lab, **ACCESS)
    assert again.report["retrieved"] == {"series": {"known": 3, "other modality": 1}, "refused": {}}
    assert again.report["snapshots"] == []

    (lab / "data" / "rawdata" / "D" / "patient.key").unlink()
    lost = ingest(orthanc, lab, **ACCESS)
    assert (lost.returncode, "restore it from the backup" in lost.stderr) == (1, True)
    assert not (lab / "data" / "rawdata" / "D" / "patient.key").exists(), "a new key makes strangers of all"


def test_one_study_can_be_asked_for_and_identities_kept(orthanc: Orthanc, series: Series, lab: Path) -> None:
    answer = ingest(orthanc, lab, "--study", series.uids["study"], "--keep-identities", **ACCESS)
    assert answer.report["retrieved"]["series"] == {"fetched": 2}
    assert {row["series_instance_uid"] for row in answer.report["cases"]} == {series.uids["series"]}


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        ((), {}, 2, "refuses access"),
        ((), {**ACCESS, "ITERSEG_DICOMWEB_PASSWORD": "wrong"}, 2, "refuses access"),
        (("--study", "1.2.3"), ACCESS, 0, ""),
    ],
)
def test_what_the_server_refuses_is_said(
    orthanc: Orthanc, lab: Path, arguments: Any, environment: dict[str, str], code: int, words: str
) -> None:
    answer = ingest(orthanc, lab, *arguments, **environment)
    assert answer.returncode == code, answer.stderr
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_address_that_is_no_dicomweb_server_is_said(lab: Path, prefect_server: PrefectServer) -> None:
    from tests_support import iterseg

    address = prefect_server.api_url.removesuffix("/api")
    answer = iterseg(lab, "ingest", "D", "--dicomweb", address, **prefect_server.environment)
    assert answer.returncode == 1
    assert "DICOMweb server" in answer.stderr
    assert "Traceback" not in answer.stderr
