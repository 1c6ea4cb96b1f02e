"""Copies: one scan that came under two identities, in the clear, and de-identified elsewhere.

Two images are the same where their converted files are, byte for byte: of the same voxels the same file comes
out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tasks.conversion import CaseToConvert
from tasks.dicom.case import Case
from tasks.dicom.reasons import Reason
from tasks.ledger.files import sha256_of_file
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import load_patients
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import load_withdrawals


def without_copies(
    paths: DatasetPaths, images: Sequence[Case], converted: Mapping[str, CaseToConvert]
) -> dict[str, CaseToConvert]:
    """The converted cases, less those whose image is also a case of another patient, or a withdrawn one's.

    The other patient may be in the test set. Of two the one stays whose patient has a place, else that which
    came first.
    """
    patients, store = load_patients(paths.patients), Store(paths.store)
    places = patients.place if patients else {}

    def rank(case: Case) -> tuple[bool, int, str]:
        return case.patient not in places, min(file.arrival for file in case.files), case.case_id

    withdrawn = load_withdrawals(paths.withdrawals).scans
    files = {case_id: store.image(case_id, job.image_key) for case_id, job in converted.items()}
    sizes = Counter(file.stat().st_size for file in files.values()) + Counter(map(_size, withdrawn))
    kept: dict[str, Case] = {}
    copies = set()
    for case in sorted((case for case in images if case.case_id in converted), key=rank):
        file = files[case.case_id]
        if sizes[file.stat().st_size] == 1:  # others need not be read
            continue
        print_ = fingerprint(file)
        first = kept.setdefault(print_, case)
        if first.patient != case.patient:
            case.settle("rejected", Reason.SAME_IMAGE, f"{first.case_id} has the same voxels")
            copies.add(case.case_id)
        elif print_ in withdrawn:
            case.settle("rejected", Reason.WITHDRAWN_ELSEWHERE, "")
            copies.add(case.case_id)
    return {case_id: job for case_id, job in converted.items() if case_id not in copies}


def scans_of(store: Store, cases: Collection[str]) -> set[str]:
    """The fingerprints of all images that were made of some cases."""
    return {fingerprint(file) for case in cases for file in store.images(case)}


def cases_with(store: Store, scans: Collection[str], but: Collection[str] = ()) -> list[str]:
    """The cases of a store that hold the voxels of one of these scans, but for some."""
    sizes = {_size(scan) for scan in scans}
    found = set()
    for case in store.cases():
        files = [] if case in but else store.images(case)
        if any(file.stat().st_size in sizes and fingerprint(file) in scans for file in files):
            found.add(case)
    return sorted(found)


def fingerprint(image: Path) -> str:
    """Bytes and digest of an image's file."""
    return f"{image.stat().st_size}:{sha256_of_file(image)}"


def _size(scan: str) -> int:
    return int(scan.split(":", maxsplit=1)[0])
