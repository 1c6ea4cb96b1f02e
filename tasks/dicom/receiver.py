"""A DICOM receiver: a C-STORE SCP (PS3.4 B) that takes what IterSeg uses from whom it knows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import uuid4
from weakref import WeakSet

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, evt
from pynetdicom.pdu import A_RELEASE_RQ
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tasks.dicom.headers import KIND_OF_SOP_CLASS
from tasks.dicom.written import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from tasks.errors import CaseRejected, ConfigError

AE_TITLE_LENGTH = 16
"""PS3.5 6.2, AE."""
SUCCESS, CANNOT_UNDERSTAND, OUT_OF_RESOURCES = 0x0000, 0xC000, 0xA700
"""Status codes of C-STORE (PS3.4 B.2.3)."""
NETWORK_TIMEOUT_S = 60.0
"""A connection on which nothing happens for this long is cut off."""
MOST_ASSOCIATIONS = 16
"""At a time: each holds an instance in memory. Who is refused tries again."""


class Transfers(Protocol):
    """Where instances go; called from the threads of associations."""

    def begin(self) -> None:
        """It is listened now, by nobody else at this place; nothing is stored before this returns."""

    def store(self, transfer: str, content: bytes) -> None:
        """Keep an instance, durable on return. Raises CaseRejected for what cannot be kept."""

    def end(self, transfer: str, *, whole: bool) -> None:
        """The association has ended: released by the sender, or cut off."""


@dataclass(frozen=True)
class Address:
    """Where a receiver listens and who may send."""

    host: str
    port: int
    ae_title: str
    allowed: Sequence[str]

    def check(self) -> None:
        """Raise :class:`ConfigError` for titles that DICOM does not allow, or an empty list."""
        for title in (self.ae_title, *self.allowed):
            if not 0 < len(title.strip()) <= AE_TITLE_LENGTH or not title.isascii() or "\\" in title:
                raise ConfigError(
                    f"{title!r} is no AE title: 1 to {AE_TITLE_LENGTH} characters, no backslash"
                )
        if not self.allowed:
            raise ConfigError("name the AE titles that may send, with --allow; nobody else is listened to")


class Receiver:
    """Listens while it is entered.

    Parameters
    ----------
    address
        Where and for whom. Port 0 takes a free one; :attr:`port` tells which.
    transfers
        Gets every instance, and the end of every association.

    Raises
    ------
    ConfigError
        Where the address cannot be listened on.
    """

    def __init__(self, address: Address, transfers: Transfers) -> None:
        address.check()
        self._address, self._transfers = address, transfers
        self._names: dict[int, str] = {}
        self._failed: set[str] = set()
        """Transfers of which an instance could not be kept, by no fault of its own."""
        self._asked_to_release: set[int] = set()
        self._storing: set[int] = set()
        self._over: WeakSet[Any] = WeakSet()
        """Associations that have ended; an instance of theirs may still be stored, by another thread."""
        self._lock = threading.Lock()
        self._begun = threading.Event()
        self._ae = AE(ae_title=address.ae_title)
        self._ae.require_calling_aet = list(address.allowed)
        self._ae.require_called_aet = True
        self._ae.maximum_associations = MOST_ASSOCIATIONS
        self._ae.network_timeout = NETWORK_TIMEOUT_S
        self._ae.add_supported_context(Verification)
        for sop_class in KIND_OF_SOP_CLASS:
            self._ae.add_supported_context(sop_class, list(AllTransferSyntaxes))
        self._server: Any = None

    def __enter__(self) -> Self:
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, lambda event: self._end(event, whole=True)),
            (evt.EVT_ABORTED, lambda event: self._gone(event, whole=False)),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_PDU_RECV, self._heard),
        ]
        place = (self._address.host, self._address.port)
        try:
            self._server = self._ae.start_server(place, block=False, evt_handlers=handlers)
        except (OSError, socket.gaierror) as error:
            raise ConfigError(f"cannot listen on {place[0]}:{place[1]}: {error.strerror}") from None
        try:
            self._transfers.begin()
        except BaseException:
            self._server.shutdown()
            raise
        finally:
            self._begun.set()  # who waits to store would wait for ever
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def _store(self, event: Any) -> int:
        self._begun.wait()
        with self._lock:
            transfer = self._names.setdefault(id(event.assoc), uuid4().hex)
            self._storing.add(id(event.assoc))
        try:
            self._transfers.store(transfer, _file_of(event))
        except CaseRejected:
            return CANNOT_UNDERSTAND
        except OSError:
            self._failed.add(transfer)
            return OUT_OF_RESOURCES
        except Exception:  # pynetdicom answers that it failed, and goes on
            self._failed.add(transfer)
            raise
        finally:
            self._stored(event)
        return SUCCESS

    def _stored(self, event: Any) -> None:
        with self._lock:
            self._storing.discard(id(event.assoc))
            over = event.assoc in self._over
        if over:
            self._end(event, whole=False)

    def _heard(self, event: Any) -> None:
        if isinstance(event.pdu, A_RELEASE_RQ):
            self._asked_to_release.add(id(event.assoc))

    def _closed(self, event: Any) -> None:
        """Some close the connection with their last word, before we have answered it: nothing is missing."""
        whole = id(event.assoc) in self._asked_to_release
        self._asked_to_release.discard(id(event.assoc))
        self._gone(event, whole=whole)

    def _gone(self, event: Any, *, whole: bool) -> None:
        """End the transfer; not before what it is storing is stored, which would begin it again for ever."""
        with self._lock:
            self._over.add(event.assoc)
            if id(event.assoc) in self._storing:
                return
        self._end(event, whole=whole)

    def _end(self, event: Any, *, whole: bool) -> None:
        transfer = self._names.pop(id(event.assoc), None)
        if transfer is not None:
            whole = whole and transfer not in self._failed
            self._failed.discard(transfer)
            self._transfers.end(transfer, whole=whole)


def _file_of(event: Any) -> bytes:
    """The instance as a file. Its meta information is constant: the same instance gives the same bytes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = event.request.AffectedSOPClassUID
    meta.MediaStorageSOPInstanceUID = event.request.AffectedSOPInstanceUID
    meta.TransferSyntaxUID = UID(event.context.transfer_syntax)
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
    stream = DicomBytesIO()
    stream.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(stream, meta, enforce_standard=True)
    stream.write(event.encoded_dataset(include_meta=False))
    return stream.getvalue()
