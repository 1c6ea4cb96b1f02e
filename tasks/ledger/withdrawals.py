"""Who and what is out, for ever: patients by their keyed hash, cases by their id. Append only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tasks.ledger.journal import Journal


@dataclass(frozen=True)
class Withdrawals:
    """Withdrawn patients (keyed hash) and cases, each with the day it was done.

    ``scans`` tells images of withdrawn patients when they come under another name (:mod:`tasks.copies`).
    """

    patients: dict[str, str] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)
    scans: frozenset[str] = frozenset()

    def hold(self, patient: str, case_id: str = "") -> bool:
        """Whether a patient, or this case of theirs, is out."""
        return patient in self.patients or case_id in self.cases


def load_withdrawals(path: Path) -> Withdrawals:
    """Read the file; nothing is withdrawn where there is none."""
    patients: dict[str, str] = {}
    cases: dict[str, str] = {}
    scans: set[str] = set()
    for entry in Journal(path).entries():
        patients |= dict.fromkeys(entry["patients"], entry["day"])
        cases |= dict.fromkeys(entry["cases"], entry["day"])
        scans |= set(entry.get("scans", []))  # older entries have none
    return Withdrawals(patients, cases, frozenset(scans))


def withdrawn_before(path: Path, patient: str | None, case_id: str | None) -> set[str]:
    """The cases that went out with a patient (keyed hash), or the one that is named, if it is out."""
    entries = Journal(path).entries()
    if patient is None:
        return {case for entry in entries for case in entry["cases"] if case == case_id}
    return {case for entry in entries if patient in entry["patients"] for case in entry["cases"]}


def add_withdrawal(
    path: Path, day: date, cases: Iterable[str], patient: str | None = None, scans: Iterable[str] = ()
) -> bool:
    """Put cases, and the patient if all of theirs are out, on the list; False where they are on it."""
    known = load_withdrawals(path)
    new_patients = [patient] if patient is not None and patient not in known.patients else []
    new_cases, new_scans = sorted(set(cases) - known.cases.keys()), sorted(set(scans) - known.scans)
    if new_patients or new_cases or new_scans:
        entry = {"day": str(day), "patients": new_patients, "cases": new_cases}
        Journal(path).append(entry | ({"scans": new_scans} if new_scans else {}))
    return bool(new_patients or new_cases)
