"""What `make bench` promises besides figures."""

from __future__ import annotations

from pathlib import Path

from begun import Begun
from report import write_report

from tasks.ledger.files import read_json

PARTS = ("conversion", "training", "prediction")


def test_a_measuring_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "begun.json"
    Begun(file, "abc").end("conversion", PARTS)
    Begun(file, "abc").end("training", PARTS)
    assert Begun(file, "abc").left(PARTS) == ["prediction"]
    Begun(file, "abc").end("prediction", PARTS)
    assert not file.exists()
    assert Begun(file, "abc").left(PARTS) == list(PARTS), "the next time it measures all anew"


def test_what_a_machine_lacks_takes_the_place_of_nothing_that_another_has_measured(tmp_path: Path) -> None:
    """Else the figures of a GPU were gone with the next run on a laptop."""
    said = []
    for text in (
        "Epochs: not measured, a.",
        "Epochs: not measured, b.",
        "Epochs: 7 s.",
        "Epochs: not measured, b.",
    ):
        write_report("gpu", text, tmp_path)
        said += [note["text"] for note in read_json(tmp_path / "report.json")["notes"]]
    assert said == ["Epochs: not measured, a.", "Epochs: not measured, b.", "Epochs: 7 s.", "Epochs: 7 s."]


def test_what_other_code_took_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "begun.json"
    Begun(file, "abc").end("conversion", PARTS)
    assert Begun(file, "def").left(PARTS) == list(PARTS)
    Begun(file, "def").end("training", PARTS)
    assert Begun(file, "def").left(PARTS) == ["conversion", "prediction"]
