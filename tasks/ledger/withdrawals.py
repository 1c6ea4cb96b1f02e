"""Who and what is out, for ever: patients by their keyed hash, cases by their id. Append only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tasks.ledger.files import read_json, write_json


@dataclass(frozen=True)
class Withdrawals:
    """Withdrawn patients (keyed hash) and cases, each with the day it was done."""

    patients: dict[str, str] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)

    def hold(self, patient: str, case_id: str = "") -> bool:
        """Whether a patient, or this case of theirs, is out."""
        return patient in self.patients or case_id in self.cases


def load_withdrawals(path: Path) -> Withdrawals:
    """Read the file; nothing is withdrawn where there is none."""
    if not path.is_file():
        return Withdrawals()
    content = read_json(path)
    return Withdrawals(content["patients"], content["cases"])


def add_withdrawal(path: Path, day: date, cases: Iterable[str], patient: str | None = None) -> bool:
    """Put cases, and the patient if all of theirs are out, on the list; False where nothing is new."""
    known = load_withdrawals(path)
    patients, out = dict(known.patients), dict(known.cases)
    if patient is not None:
        patients.setdefault(patient, str(day))
    for case_id in cases:
        out.setdefault(case_id, str(day))
    if (patients, out) == (known.patients, known.cases):
        return False
    write_json(path, {"version": 1, "patients": patients, "cases": out})
    return True
