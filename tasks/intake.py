"""The fate of each file that comes in: read once, hashed, judged, de-identified, written once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tasks.cluster.placement import cores
from tasks.delivery import content_of, is_large_and_no_dicom, was_deleted
from tasks.dicom.case import case_ids_of
from tasks.dicom.deidentify import Deidentification, deidentify, has_lost_its_identity
from tasks.dicom.headers import IMAGE_KINDS, Header, describe, header_of, identity_in, parse
from tasks.dicom.reasons import Reason
from tasks.dicom.saved import digest_of_saved
from tasks.dicom.written import under_another_uid
from tasks.drawings import Drawings
from tasks.errors import CaseRejected, ConfigError
from tasks.ledger.accounts import FileRow, FileState
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.files import read_json, sha256_of_file
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.refinements import load_acceptances
from tasks.ledger.snapshots import accounted, require_whole
from tasks.ledger.withdrawals import Withdrawals, load_withdrawals
from tasks.settings.dataset import load_deidentification
from tasks.shown.progress import progress
from tasks.staged import DICOM_SUFFIX, staged_file, told_apart

OWN_UIDS = ("sop_instance_uid", "series_instance_uid", "study_instance_uid", "frame_of_reference_uid")
NAMED = ("referenced_series", "referenced_instances")
IGNORED = (Reason.NO_DICOM, Reason.OTHER_KIND, Reason.WITHDRAWN, Reason.DELETED)


@dataclass(frozen=True)
class Intake:
    """What the fate of a file depends on besides the file.

    Attributes
    ----------
    known
        SOPInstanceUID → sha256 of what the dataset holds.
    settled
        sha256 of everything that was taken before, as it came in and as it was stored.
    known_series
        SeriesInstanceUIDs that the dataset holds.
    referenced_series
        SeriesInstanceUIDs that its segmentations name, whether they are there or not.
    known_uids
        All UIDs of the files that the dataset holds, and those that its segmentations name: they stay.
    drawings
        The segmentations that the dataset holds.
    rules
        Rules; None where there is no recipe.
    accepted
        SOPInstanceUIDs of predictions that a person stands for: they come in as labels.
    """

    pseudonyms: Pseudonyms
    known: Mapping[str, str]
    settled: frozenset[str]
    known_series: frozenset[str]
    referenced_series: frozenset[str]
    known_uids: frozenset[str]
    drawings: Drawings
    withdrawn: Withdrawals
    rules: Deidentification | None
    sent: Path
    accepted: frozenset[str]
    everything: bool = field(default=False)
    """Whether all files are de-identified; what belongs to an image that was is in any case."""
    staged: dict[str, Path] = field(default_factory=dict)
    """sha256 → the file, of the segmentations of this delivery."""

    @classmethod
    def of(cls, paths: DatasetPaths, *, deidentify_all: bool) -> Intake:
        """Read what a dataset knows."""
        require_whole(paths)
        taken = [row for row in accounted(paths) if row.state == "taken" and row.header is not None]
        rules = _rules(paths)
        if deidentify_all and rules is None:
            raise ConfigError(
                f"{paths.config / 'deidentification.yaml'} does not exist; copy it from IterSeg's"
            )
        pseudonyms = pseudonyms_of(paths)
        headers = [row.header for row in taken if row.header is not None]
        return cls(
            pseudonyms=pseudonyms,
            known={row.header["sop_instance_uid"]: row.sha256 for row in taken if row.header},
            settled=frozenset({row.sha256 for row in taken} | {row.source_sha256 for row in taken} - {""}),
            known_series=frozenset(header["series_instance_uid"] for header in headers),
            referenced_series=frozenset(uid for header in headers for uid in header.get(NAMED[0], ())),
            known_uids=frozenset(header.get(key, "") for header in headers for key in OWN_UIDS)
            | {uid for header in headers for key in NAMED for uid in header.get(key, ())},
            drawings=Drawings.of(paths, pseudonyms),
            withdrawn=load_withdrawals(paths.withdrawals),
            rules=rules,
            sent=paths.sent,
            accepted=frozenset(load_acceptances(paths.acceptances)),
            everything=deidentify_all,
        )

    def stage_all(
        self, files: Sequence[Path], root: Path, folder: Path | None, *, ours: bool = False
    ) -> list[FileRow]:
        """The rows of files, in their order; what may be taken is written below ``folder``.

        ``folder`` None: nothing is written or changed, as for a folder that a user filled; what can only be
        taken with a change has no row, and is for a delivery of its own. ``ours``: they were received, and
        whoever sent them was told that they are safe.

        Raises
        ------
        OSError
            Where a file that is ours cannot be read: it must not be taken for one that came damaged.
        """
        with ThreadPoolExecutor(max(2, cores())) as pool:
            staged = pool.map(lambda path: self.stage(path, root, folder, ours=ours), files)
            return [row for row in progress(staged, "read", len(files)) if row is not None]

    def stage(self, path: Path, root: Path, folder: Path | None, *, ours: bool = False) -> FileRow | None:
        """The row of one file, before it is compared with the others of its delivery."""
        relative = path.relative_to(root).as_posix()
        try:
            if path.is_file() and is_large_and_no_dicom(path):
                size, digest = path.stat().st_size, sha256_of_file(path)
                return FileRow(relative, "ignored", Reason.NO_DICOM.value, "", digest, size, None)
            content, deleted = content_of(path), was_deleted(path, root)
        except OSError as error:
            if ours:
                raise OSError(error.errno, error.strerror) from None  # without its path
            return FileRow(relative, "rejected", Reason.UNREADABLE.value, str(error.strerror), "", 0, None)
        if deleted:
            return self.refused(relative, CaseRejected(Reason.DELETED, "it lies in a recycle bin"), content)
        return self._row_of(path, relative, content, folder)

    def _row_of(self, path: Path, relative: str, content: bytes, folder: Path | None) -> FileRow | None:
        digest = sha256(content).hexdigest()
        if digest in self.settled:
            return FileRow(relative, "duplicate", None, "", digest, len(content), None)
        try:
            header, stored = self.accept(content, path.suffix, may_change=folder is not None)
        except CaseRejected as error:
            return self.refused(relative, error, content)
        if folder is None and (
            self._saved_in_place_again(header, content) or (self.rules and self._is_of_strangers(header))
        ):
            return None
        if header.localizer:
            fate = ("ignored", Reason.LOCALIZER.value, "its ImageType calls it a localizer")
            return FileRow(relative, *fate, digest, len(content), header.as_json())  # type: ignore[arg-type]
        source_digest = ""
        if stored is not content:
            source_digest, digest = digest, sha256(stored).hexdigest()
        if folder is not None:
            target = staged_file(folder, header, digest)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(stored)
            if header.kind not in IMAGE_KINDS:
                self.staged[digest] = target
        return FileRow(relative, "taken", None, "", digest, len(stored), header.as_json(), source_digest)

    def accept(self, content: bytes, suffix: str, *, may_change: bool) -> tuple[Header, bytes]:
        """The header of a file and what is kept of it; raises CaseRejected with its fate."""
        header = describe(parse(content, suffix), self.pseudonyms.patient)
        if self._is_withdrawn(header):
            raise CaseRejected(Reason.WITHDRAWN, "")
        if may_change and (before := self._taken_before(header, content)) is not None:
            return header_of(before, suffix, self.pseudonyms.patient), before
        if may_change and self._saved_in_place_again(header, content):
            # Under a UID of its own what was drawn anew is another object, and not a conflict.
            uid = self.drawings.uid_of_its_own(header.sop_instance_uid, content)
            content = under_another_uid(content, uid)
            header = header._replace(sop_instance_uid=uid)
        kept = self._without_identity(header, content) if may_change else content
        if kept is not content:
            content = kept
            # What tells a prediction need not be among what stays.
            predicted = header.predicted
            header = header_of(content, suffix, self.pseudonyms.patient)._replace(predicted=predicted)
            if self._is_withdrawn(header):
                raise CaseRejected(Reason.WITHDRAWN, "")
        return header, content

    def refused(self, path: str, error: CaseRejected, content: bytes) -> FileRow:
        """The row of a file that is not taken."""
        state: FileState = "ignored" if error.reason in IGNORED else "rejected"
        identity, digest = identity_in(content), sha256(content).hexdigest()
        patient = "" if identity is None else self.pseudonyms.patient(identity)
        row = FileRow(path, state, error.reason, error.detail, digest, len(content), None)
        return row._replace(patient=patient)

    def is_withdrawn(self, content: bytes) -> bool:
        """Whether a file that has come in, and waits, is of what was withdrawn since."""
        try:
            return self._is_withdrawn(describe(parse(content, DICOM_SUFFIX), self.pseudonyms.patient))
        except CaseRejected:  # a dose, a report, a slice that was cut short
            identity = identity_in(content)
            return identity is not None and self.withdrawn.hold(self.pseudonyms.patient(identity))

    def _taken_before(self, header: Header, content: bytes) -> bytes | None:
        """See :meth:`Drawings.taken_before`; None for images."""
        if header.kind in IMAGE_KINDS:
            return None
        kept = self._without_identity(header, content)

        def stripped() -> list[bytes]:
            both_ways = (False, True) if self.rules is not None else ()
            return [self._stripped(content, of_strangers=way) for way in both_ways]

        return self.drawings.taken_before(header.sop_instance_uid, content, kept, stripped)

    def _saved_in_place_again(self, header: Header, content: bytes) -> bool:
        """Whether a viewer has saved a segmentation under its UID, and has done so before.

        That may be our own UID, of a prediction, or that of a person's drawing.
        """
        uid = header.sop_instance_uid
        known = self.known.get(uid) or self.known.get(self.pseudonyms.uid(uid))
        if known is None or header.kind in IMAGE_KINDS:
            return False
        handed_out = self._handed_out(uid)
        if sha256(content).hexdigest() in (known, handed_out):
            return False
        # A copy of what was taken before looks otherwise where that was de-identified.
        kept = self._without_identity(header, content)
        if sha256(kept).hexdigest() == known:
            return False
        # What came with its identity cannot be compared with what has lost it: that is a conflict.
        keyed = uid not in self.known or self.pseudonyms.uid(uid) == uid
        return handed_out is not None or keyed or not has_lost_its_identity(kept)

    def _without_identity(self, header: Header, content: bytes) -> bytes:
        """What is kept of a file: itself, unless all are de-identified or it belongs to one that was."""
        of_strangers = self._is_of_strangers(header)
        if self.rules is None or not (self.everything or of_strangers):
            return content
        return self._stripped(content, of_strangers=of_strangers)

    def _stripped(self, content: bytes, *, of_strangers: bool) -> bytes:
        def stays(uid: str) -> bool:
            # Study and frame may be here both ways, and go with the series that the file belongs to.
            other_way = of_strangers and self.pseudonyms.uid(uid) in self.known_uids
            return uid in self.known_uids and not other_way

        assert self.rules is not None
        return deidentify(content, self.rules, self.pseudonyms, stays)

    def _is_withdrawn(self, header: Header) -> bool:
        """Also what refers to a scan that was withdrawn, of which nothing else may be here any more."""
        series = (header.series_instance_uid, *header.referenced_series)
        cases = [case_id for uid in series for case_id in case_ids_of(uid, self.pseudonyms.uid)]
        return any(self.withdrawn.hold(header.patient, case_id) for case_id in cases)

    def _is_of_strangers(self, header: Header) -> bool:
        """Whether its series, or what it refers to, is here only under keyed UIDs; it may name no series.

        An image that is not here yet may be named, so, by a segmentation that is.
        """

        def only_keyed(uid: str, known: Collection[str]) -> bool:
            return uid not in known and self.pseudonyms.uid(uid) in known

        def is_keyed(series: str) -> bool:
            return only_keyed(series, self.known_series) or (
                series not in self.known_series and only_keyed(series, self.referenced_series)
            )

        if any(map(is_keyed, header.referenced_series)):
            return True
        if any(only_keyed(uid, self.known) for uid in header.referenced_instances):
            return True
        # A drawing goes with its image: its own series may be here both ways.
        in_the_clear = not self.known_series.isdisjoint(header.referenced_series)
        return not in_the_clear and is_keyed(header.series_instance_uid)

    def settle(self, rows: Sequence[FileRow]) -> list[FileRow]:
        """Tell copies from conflicts: one SOP instance UID with two contents names no instance."""
        return list(told_apart(rows, self.known, self._sent, self._saved))

    def _saved(self, digest: str) -> str:
        """What tells a content of this delivery from another: two archives may send one drawing."""
        file = self.staged.get(digest)
        return digest if file is None else digest_of_saved(file.read_bytes())

    def _sent(self, sop_instance_uid: str) -> str | None:
        """As :meth:`_handed_out`, of a prediction for which no person stands."""
        return None if sop_instance_uid in self.accepted else self._handed_out(sop_instance_uid)

    def _handed_out(self, sop_instance_uid: str) -> str | None:
        """The sha256 of the prediction that was written under a UID, None where none was."""
        file = self.sent / f"{sop_instance_uid}.json"
        return str(read_json(file)["sha256"]) if file.is_file() else None


def _rules(paths: DatasetPaths) -> Deidentification | None:
    recipe = load_deidentification(paths.config)
    return Deidentification.of(recipe.keep, recipe.empty, recipe.replace) if recipe else None
