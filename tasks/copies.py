"""Copies: one scan that came under two identities, in the clear, and de-identified elsewhere.

Images are the same where their voxels are, whatever compresses them; a withdrawn patient's are known by them
for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tasks.conversion import CaseToConvert
from tasks.dicom.case import Case
from tasks.dicom.reasons import Reason
from tasks.ledger.images import fingerprint, voxel_bytes
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import places_of_patients
from tasks.ledger.scans import load_scans
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import load_withdrawals


def without_copies(
    paths: DatasetPaths, images: Sequence[Case], converted: Mapping[str, CaseToConvert]
) -> dict[str, CaseToConvert]:
    """The converted cases, less those whose image is also a case of another patient, or a withdrawn one's.

    The other patient may be in the test set. Of two the one stays that was used before, for ever: models know
    it. Else the one whose patient has a place, else that which came first.
    """
    places, store = places_of_patients(paths.patients), Store(paths.store)
    used = load_scans(paths.scans)

    def is_used(case: Case) -> bool:
        return (case.case_id, converted[case.case_id].image_key) in used.images

    def rank(case: Case) -> tuple[bool, int, str]:
        return case.patient not in places, min(file.arrival for file in case.files), case.case_id

    withdrawn = load_withdrawals(paths.withdrawals).scans
    files = {case_id: store.image(case_id, job.image_key) for case_id, job in converted.items()}
    bytes_of = {case_id: voxel_bytes(file) for case_id, file in files.items()}
    with_as_many = Counter(bytes_of.values())
    kept: dict[str, Case] = {}
    for case in sorted((case for case in images if case.case_id in converted), key=rank):
        file = files[case.case_id]
        if is_one_of(withdrawn, file):
            case.settle("rejected", Reason.WITHDRAWN_ELSEWHERE, "")
            del files[case.case_id]
            continue
        # Also where that case is gone, or its label, and nobody else stands here for its voxels.
        new = not is_used(case) and is_one_of(used.patients, file)
        if new and used.patients[fingerprint(file)] != case.patient:
            case.settle("rejected", Reason.SAME_IMAGE, "it was used before, as another patient's")
            del files[case.case_id]
            continue
        if with_as_many[bytes_of[case.case_id]] == 1:  # one that is alone with its size need not be read
            continue
        first = kept.setdefault(fingerprint(file), case)
        if first.patient != case.patient:
            case.settle("rejected", Reason.SAME_IMAGE, f"{first.case_id} has the same voxels")
            del files[case.case_id]
    return {case_id: job for case_id, job in converted.items() if case_id in files}


def is_one_of(scans: Collection[str], image: Path) -> bool:
    """Whether a converted image holds the voxels of one of these scans; an image that is gone does not."""
    if not scans or not image.is_file() or voxel_bytes(image) not in {_bytes_of(scan) for scan in scans}:
        return False
    return fingerprint(image) in scans


def scans_of(store: Store, cases: Collection[str]) -> set[str]:
    """The fingerprints of all images that were made of some cases."""
    return {fingerprint(file) for case in cases for file in store.images(case)}


def cases_with(store: Store, scans: Collection[str], but: Collection[str] = ()) -> list[str]:
    """The cases of a store that hold the voxels of one of these scans, but for some."""
    return [
        case
        for case in store.cases()
        if case not in but and any(is_one_of(scans, file) for file in store.images(case))
    ]


def _bytes_of(scan: str) -> int:
    return int(scan.split(":", maxsplit=1)[0])
