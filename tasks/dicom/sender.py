"""Send DICOM files to whom people look at: C-STORE (PS3.4 B) or STOW-RS (PS3.18 10.5)."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when it is imported

from tasks.dicom.web import DicomWeb
from tasks.dicom.written import read_to_send, says_what_it_is
from tasks.errors import TransientError, UserDataError
from tasks.settings.output import Destination

TIMEOUT_S = 60.0
"""For an association, an answer to a store, and silence on the network."""
SLOWEST_BYTES_PER_S = 250_000.0
"""Of a line on which a large object still arrives."""
REJECTED_FOR_NOW = 2
"""Of an association, as by a peer that has as many as it takes (PS3.8 9.3.4)."""
MOST_CONTEXTS = 128
"""Of presentation contexts in an association (PS3.8 9.3.2.2)."""
WARNINGS = (0xB000, 0xB006, 0xB007)
"""Stored, with a remark (PS3.4 B.2.3)."""
OUT_OF_RESOURCES = range(0xA700, 0xA800)
PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


@dataclass(frozen=True)
class Peer:
    """A C-STORE SCP, and by what name we call."""

    host: str
    port: int
    ae_title: str
    calling: str

    @classmethod
    def of(cls, destination: Destination) -> Peer:
        """A destination that has a host."""
        assert destination.host is not None and destination.aet is not None
        return cls(destination.host, destination.port, destination.aet, destination.calling_aet)


def store_dimse(peer: Peer, files: Sequence[Path]) -> None:
    """Store files, all or what stands in the way.

    Raises
    ------
    TransientError
        Where the peer cannot be reached, hangs, or has no room now.
    UserDataError
        Where it refuses us, or one of the files, for good.
    """
    kinds = {(sop_class, syntax) for file in files for sop_class, syntax in _contexts_of(file)}
    if len(kinds) > MOST_CONTEXTS:
        raise UserDataError(f"{len(kinds)} kinds of objects are too many for one association")
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(kinds)]
    with _associated(peer, contexts, TIMEOUT_S) as association:
        for file in files:
            _store(association, peer, file)


def echo(peer: Peer, timeout_s: float) -> None:
    """Ask a peer whether it is there and knows us (C-ECHO, PS3.7 9.1.5); nothing is sent.

    Raises
    ------
    TransientError
        Where it cannot be reached or does not answer.
    UserDataError
        Where it refuses us.
    """
    with _associated(peer, [build_context(Verification)], timeout_s) as association:
        answer = association.send_c_echo()
    if answer is None or answer.get("Status") != 0:
        raise TransientError(f"{peer.ae_title} did not answer a C-ECHO")


@contextmanager
def _associated(peer: Peer, contexts: list[Any], timeout_s: float) -> Iterator[Any]:
    ae = AE(ae_title=peer.calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout_s
    ae.requested_contexts = contexts
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, _without_delay)]
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title, evt_handlers=handlers)
    if association.is_rejected:
        answer = association.acceptor.primitive
        if answer is not None and answer.result == REJECTED_FOR_NOW:
            raise TransientError(f"{peer.ae_title} takes no more associations now")
        raise UserDataError(f"{peer.ae_title} refuses {peer.calling}; is it known there?")
    if not association.is_established and association.rejected_contexts:
        kinds = ", ".join(sorted({context.abstract_syntax.name for context in contexts}))
        raise UserDataError(f"{peer.ae_title} takes none of what was offered: {kinds}")
    if not association.is_established:
        raise TransientError(f"{peer.ae_title} cannot be reached at {peer.host}:{peer.port}")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _contexts_of(file: Path) -> list[tuple[str, str]]:
    """SOP class and transfer syntaxes to propose: a plain one may be sent as another plain one.

    Each in a context of its own, so that a peer that takes both gets the file as it is: a conversion to
    explicit VR writes contours of 64 kB as of an unknown VR (PS3.5 6.2.2).
    """
    try:
        meta = pydicom.filereader.read_file_meta_info(file)
    except InvalidDicomError:
        meta = FileMetaDataset()
    if not says_what_it_is(meta):
        meta = read_to_send(file).file_meta
    syntax = meta.TransferSyntaxUID
    proposed = PLAIN[:2] if syntax in PLAIN else (syntax,)
    return [(str(meta.MediaStorageSOPClassUID), str(one)) for one in proposed]


def _without_delay(event: Any) -> None:
    """With Nagle's algorithm each instance waits 40 ms for an acknowledgement: 5 s a series, not 0.8 s."""
    with suppress(AttributeError, OSError):
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _store(association: Any, peer: Peer, file: Path) -> None:
    # The clock runs from the first byte that is sent.
    timeout_s = TIMEOUT_S + file.stat().st_size / SLOWEST_BYTES_PER_S
    association.dimse_timeout = association.network_timeout = timeout_s
    try:
        answer = association.send_c_store(read_to_send(file))
    except (ValueError, RuntimeError, AttributeError) as error:
        if not association.is_established:
            raise TransientError(f"{peer.ae_title} ended the association") from None
        raise UserDataError(
            f"{peer.ae_title} does not take such an object ({type(error).__name__})"
        ) from None
    status = answer.get("Status") if answer is not None else None
    if status is None:
        raise TransientError(f"{peer.ae_title} did not answer within {timeout_s:.0f} s")
    if status in OUT_OF_RESOURCES:
        raise TransientError(f"{peer.ae_title} has no room (status 0x{status:04X})")
    if status != 0 and status not in WARNINGS:
        raise UserDataError(f"{peer.ae_title} refuses the object (status 0x{status:04X})")


def store_web(url: str, files: Sequence[Path], name: str = "") -> None:
    """Store files by STOW-RS; raises as :func:`store_dimse`, and ConfigError where access is refused."""
    DicomWeb(url, name=name).store(files)
