"""Who and what is out, for ever: patients by their keyed hash, cases by their id. Append only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tasks.ledger.journal import Journal


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
    patients: dict[str, str] = {}
    cases: dict[str, str] = {}
    for entry in Journal(path).entries():
        patients |= dict.fromkeys(entry["patients"], entry["day"])
        cases |= dict.fromkeys(entry["cases"], entry["day"])
    return Withdrawals(patients, cases)


def withdrawn_before(path: Path, patient: str | None, case_id: str | None) -> set[str]:
    """The cases that went out with a patient (keyed hash), or the one that is named, if it is out."""
    entries = Journal(path).entries()
    if patient is None:
        return {case for entry in entries for case in entry["cases"] if case == case_id}
    return {case for entry in entries if patient in entry["patients"] for case in entry["cases"]}


def add_withdrawal(path: Path, day: date, cases: Iterable[str], patient: str | None = None) -> bool:
    """Put cases, and the patient if all of theirs are out, on the list; False where nothing is new."""
    known = load_withdrawals(path)
    new_patients = [patient] if patient is not None and patient not in known.patients else []
    new_cases = sorted(set(cases) - known.cases.keys())
    if not new_patients and not new_cases:
        return False
    Journal(path).append({"day": str(day), "patients": new_patients, "cases": new_cases})
    return True
