"""Which files make a case: an image series and the segmentation that counts for it.

The state of a dataset is the union of its snapshots. For each image the newest segmentation wins, by
the date it arrived at; of two of one date the one whose author the user prefers, and without a
preference they are an error that names both.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from tasks.dicom.case import Assembly, Case, CaseState, DicomFile, case_id_of
from tasks.dicom.headers import IMAGE_KINDS, Header
from tasks.dicom.reasons import Reason


def assemble(
    files: Sequence[DicomFile],
    image_kind: str,
    segmentation_kinds: Sequence[str],
    precedence: Sequence[str] = (),
    withdrawn: Callable[[str, str], bool] = lambda _patient, _case_id: False,
    *,
    later_wins: bool = False,
    is_prediction: Callable[[DicomFile], bool] = lambda _: False,
) -> Assembly:
    """Put files together to cases, every series accounted for.

    Parameters
    ----------
    files
        What the snapshots hold, without duplicates.
    image_kind
        ``CT`` or ``MR``: what the dataset learns on.
    segmentation_kinds
        Those of ``RTSTRUCT`` and ``SEG`` that count as labels.
    precedence
        Patterns of authors, the most preferred first: they decide between segmentations of one date.
        A pattern must match the whole of what a segmentation says of its author, whatever the case
        (:data:`tasks.dicom.headers.AUTHORSHIP`).
    withdrawn
        Whether a patient (keyed hash) or a case of theirs is out.
    later_wins
        Whether of two deliveries of one date the later one counts, as if it were of another date.
    is_prediction
        Whether a segmentation is one of ours that nobody has changed: it competes with no person's.
    """
    assembly, cases, claims = _claims(files, image_kind, segmentation_kinds, withdrawn)
    for uid, claimants in claims.items():
        drawn = [file for file in claimants if not is_prediction(file)]
        for file in claimants:
            if file not in drawn:
                assembly.set_aside(file, "ignored", Reason.OWN_PREDICTION, f"of {cases[uid].case_id}")
        if drawn:
            _choose(cases[uid], drawn, assembly, precedence, later_wins)
    return assembly


def segmentations(
    files: Sequence[DicomFile],
    image_kind: str,
    segmentation_kinds: Sequence[str],
    withdrawn: Callable[[str, str], bool],
) -> list[tuple[Case, list[DicomFile]]]:
    """Each image with every segmentation that could be its label, whichever of them counts."""
    _, cases, claims = _claims(files, image_kind, segmentation_kinds, withdrawn)
    return [(cases[uid], claimants) for uid, claimants in claims.items()]


def _claims(
    files: Sequence[DicomFile],
    image_kind: str,
    segmentation_kinds: Sequence[str],
    withdrawn: Callable[[str, str], bool],
) -> tuple[Assembly, dict[str, Case], dict[str, list[DicomFile]]]:
    """The images by series, and for each the segmentations that are of it; the others are set aside."""
    series: dict[str, list[DicomFile]] = defaultdict(list)
    for file in files:
        series[file.header.series_instance_uid].append(file)
    assembly = Assembly()
    cases: dict[str, Case] = {}
    drawn: list[DicomFile] = []
    for uid, members in sorted(series.items()):
        # An OHIF RTSTRUCT reuses a SEG's series: segmentations are told apart file by file.
        images = [m for m in members if m.header.kind in IMAGE_KINDS]
        drawn += [m for m in members if m.header.kind not in IMAGE_KINDS]
        if images:
            case = _image_case(uid, images, image_kind)
            if withdrawn(case.patient, case.case_id):
                case.settle("ignored", Reason.WITHDRAWN)
            assembly.images.append(case)
            cases[uid] = case
    return assembly, cases, _resolve(drawn, cases, segmentation_kinds, assembly)


def _image_case(uid: str, members: list[DicomFile], image_kind: str) -> Case:
    kinds = sorted({m.header.kind for m in members})
    patients = {m.header.patient for m in members}
    case = Case(case_id_of(uid), uid, "+".join(kinds), members[0].header.patient, members)
    if kinds != [image_kind]:
        case.settle("ignored", Reason.OTHER_MODALITY, f"it is {case.kind}, not {image_kind}")
    elif len(patients) > 1:
        case.settle("rejected", Reason.PATIENT_MISMATCH, f"series {uid} names two patients")
    return case


def _resolve(
    segmentations: list[DicomFile],
    images: Mapping[str, Case],
    kinds: Sequence[str],
    assembly: Assembly,
) -> dict[str, list[DicomFile]]:
    """Find the image of each segmentation among all images, and keep those that can be used."""
    series_of_instance = {f.header.sop_instance_uid: uid for uid, case in images.items() for f in case.files}
    frames: dict[str, set[str]] = defaultdict(set)
    for uid, case in images.items():
        for file in case.files:
            frames[file.header.frame_of_reference_uid].add(uid)
    claims: dict[str, list[DicomFile]] = defaultdict(list)
    for file in segmentations:
        candidates = _candidates(file.header, images, series_of_instance, frames)
        usable = {uid for uid in candidates if images[uid].reason == Reason.UNLABELLED}
        fate = _misfit(file, candidates, usable, images, kinds)
        if fate is None:
            claims[usable.pop()].append(file)
        else:
            assembly.set_aside(file, *fate)
    return claims


def _misfit(
    file: DicomFile,
    candidates: set[str],
    usable: set[str],
    images: Mapping[str, Case],
    kinds: Sequence[str],
) -> tuple[CaseState, Reason, str] | None:
    """Why a segmentation cannot be a label; None where it belongs to exactly one usable image."""
    if file.header.kind not in kinds:
        return "ignored", Reason.OTHER_MODALITY, f"it is {file.header.kind}"
    if not candidates:
        referred = ", ".join(file.header.referenced_series) or "nothing"
        return "rejected", Reason.REFERENCE_ABSENT, f"it refers to {referred}"
    if not usable:
        target = images[min(candidates)]
        return target.state, Reason(target.reason or Reason.UNEXPECTED), f"its image: {target.detail}"
    # One that was withdrawn or cannot be used may be the one that is meant.
    possible = {uid for uid in candidates if images[uid].reason != Reason.OTHER_MODALITY}
    if len(possible) > 1:
        return "rejected", Reason.REFERENCE_AMBIGUOUS, f"it refers to {', '.join(sorted(possible))}"
    (uid,) = usable
    if images[uid].patient != file.header.patient:
        return "rejected", Reason.PATIENT_MISMATCH, f"its image is series {uid}"
    return None


def _candidates(
    header: Header,
    images: Mapping[str, Case],
    series_of_instance: Mapping[str, str],
    frames: Mapping[str, set[str]],
) -> set[str]:
    """The image that a segmentation means.

    The series that it names, or that of the instances it names, or, only where it names neither, what
    lies in its frame of reference.

    Where instances lie in one of several series that are named, that one is meant; where they lie
    elsewhere, the object contradicts itself and both are candidates.
    """
    by_series = {uid for uid in header.referenced_series if uid in images}
    by_instance = {
        series_of_instance[uid] for uid in header.referenced_instances if uid in series_of_instance
    }
    if by_series and by_instance:
        return by_instance if by_instance <= by_series else by_series | by_instance
    if by_series or by_instance or header.referenced_series or header.referenced_instances:
        return by_series | by_instance
    return set(frames.get(header.frame_of_reference_uid, ())) if header.frame_of_reference_uid else set()


def _choose(
    case: Case,
    claimants: list[DicomFile],
    assembly: Assembly,
    precedence: Sequence[str],
    later_wins: bool,
) -> None:
    newest = max(claimants, key=lambda file: file.arrival)
    current = [
        file
        for file in claimants
        if (file.arrival == newest.arrival if later_wins else file.day == newest.day)
    ]
    preferred = _preferred(current, precedence)
    if len(preferred) > 1:
        named = " and ".join(sorted(f"{f.header.kind} {f.header.sop_instance_uid}" for f in preferred))
        together = len({file.arrival for file in preferred}) == 1
        case.settle(
            "rejected",
            Reason.SEVERAL_SEGMENTATIONS,
            f"{named} {'arrived together' if together else 'are of one date'}",
        )
        _account(assembly, claimants, preferred, Reason.SEVERAL_SEGMENTATIONS, case)
        return
    (case.segmentation,) = preferred
    if grown := _grown_since(case, case.segmentation):
        named = f"{case.segmentation.header.kind} {case.segmentation.header.sop_instance_uid}"
        case.settle("rejected", Reason.IMAGE_HAS_GROWN, f"{grown} slices came after {named}")
        _account(assembly, claimants, preferred, Reason.IMAGE_HAS_GROWN, case)
        return
    others = [file for file in claimants if file is not case.segmentation]
    for file in others:
        chosen = case.segmentation.header.sop_instance_uid
        assembly.set_aside(file, "ignored", Reason.SUPERSEDED, f"of {case.case_id}, which uses {chosen}")
    said = f"the newest of {len(claimants)} segmentations" if others else ""
    case.settle(
        "pending", None, said if len(current) == 1 else f"the preferred of {len(claimants)} segmentations"
    )


def _account(
    assembly: Assembly, claimants: list[DicomFile], current: list[DicomFile], reason: Reason, case: Case
) -> None:
    """Where none of an image's segmentations counts, each of them has its row."""
    for file in claimants:
        if file in current:
            assembly.set_aside(file, "rejected", reason, f"of {case.case_id}")
        else:
            assembly.set_aside(file, "ignored", Reason.SUPERSEDED, f"of {case.case_id}, which has newer ones")


def _grown_since(case: Case, segmentation: DicomFile) -> int:
    """How many slices came after a drawing of those that were there, and were not on the screen then.

    On them nobody has looked, and without a contour they would be background. A drawing that names them
    was made of the whole image, whichever arrived first.
    """
    later = [file for file in case.files if file.came > segmentation.came]
    named = set(segmentation.header.referenced_instances)
    if len(later) == len(case.files):
        return 0
    return sum(file.header.sop_instance_uid not in named for file in later)


def _preferred(files: list[DicomFile], precedence: Sequence[str]) -> list[DicomFile]:
    """Of segmentations of one date those whose author stands first; all without a preference."""
    if len(files) > 1:
        for pattern in precedence:
            matching = [file for file in files if _is_of(file, pattern)]
            if matching:
                return matching
    return files


def _is_of(file: DicomFile, pattern: str) -> bool:
    return any(re.fullmatch(pattern, author, re.IGNORECASE) for author in file.header.authors)
