"""What is sent arrives as it is; a peer that refuses, hangs or is full is said for what it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pydicom
import pytest
from dicom_factory import Series, ball, without_preamble, write_rois, write_series
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tasks.dicom import sender
from tasks.dicom.sender import Peer, store_dimse, store_web
from tasks.errors import ConfigError, TransientError, UserDataError

SHAPE = (4, 16, 18)


class Archive:
    """A real C-STORE SCP whose answers a test chooses."""

    def __init__(self, answer: Callable[[Any], int]) -> None:
        self.got: dict[str, bytes] = {}
        self._answer = answer
        self._ae = AE(ae_title="ARCHIVE")
        self._ae.require_calling_aet = ["ITERSEG"]
        for context in AllStoragePresentationContexts[:126]:
            self._ae.add_supported_context(context.abstract_syntax or "")
        for uid in ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.481.3"):
            self._ae.add_supported_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])

    def __enter__(self) -> Archive:
        handlers: list[Any] = [(evt.EVT_C_STORE, self._take)]
        self._server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def peer(self, calling: str = "ITERSEG") -> Peer:
        return Peer("127.0.0.1", int(self._server.server_address[1]), "ARCHIVE", calling)

    def _take(self, event: Any) -> int:
        status = self._answer(event)
        if status == 0:
            self.got[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset()
        return status


@pytest.fixture
def series(tmp_path: Path) -> Series:
    series = write_series(tmp_path / "ct", SHAPE)
    series.files.append(write_rois(tmp_path / "rt.dcm", series, {"GTV": ball(SHAPE, (2, 8, 8), 3)}))
    return series


def test_an_image_and_its_structure_set_arrive(series: Series) -> None:
    with Archive(lambda _: 0) as archive:
        store_dimse(archive.peer(), series.files)
    sent = {str(pydicom.dcmread(file).SOPInstanceUID) for file in series.files}
    assert set(archive.got) == sent


def test_a_peer_that_takes_every_plain_syntax_gets_the_file_as_it_is(series: Series) -> None:
    """A conversion would write contours of more than 64 kB as of an unknown VR."""
    with Archive(
        lambda event: 0 if event.context.transfer_syntax == ImplicitVRLittleEndian else 0xA900
    ) as archive:
        for file in series.files:
            ds = pydicom.dcmread(file)
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            ds.save_as(file, implicit_vr=True, little_endian=True)
        store_dimse(archive.peer(), series.files)
    assert len(archive.got) == len(series.files)


@pytest.mark.parametrize("meta", [True, False])
def test_a_file_of_an_old_export_arrives_too(series: Series, meta: bool) -> None:
    """Without a preamble, and perhaps without what says how it is written."""
    for file in series.files:
        without_preamble(file, meta=meta)
    with Archive(lambda _: 0) as archive:
        store_dimse(archive.peer(), series.files)
    assert len(archive.got) == len(series.files)


@pytest.mark.parametrize("keyword", ["MediaStorageSOPClassUID", "TransferSyntaxUID"])
def test_a_file_that_does_not_say_what_it_is_arrives_too(series: Series, keyword: str) -> None:
    """As older scripts write them, and as they are ingested."""
    for file in series.files:
        ds = pydicom.dcmread(file)
        del ds.file_meta[keyword]
        with file.open("wb") as stream:
            stream.write(bytes(128) + b"DICM")
            write_file_meta_info(DicomFileLike(stream), ds.file_meta, enforce_standard=False)
            write_dataset(DicomFileLike(stream), ds)
    with Archive(lambda _: 0) as archive:
        store_dimse(archive.peer(), series.files)
    assert len(archive.got) == len(series.files)


def test_a_large_file_has_as_much_longer_as_a_slow_line_takes(
    series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock runs from the first byte that is sent."""
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.2)

    def slow(_: Any) -> int:
        threading.Event().wait(0.6)
        return 0

    with Archive(slow) as archive:
        with pytest.raises(TransientError, match="did not answer within"):
            store_dimse(archive.peer(), series.files[:1])
        monkeypatch.setattr(sender, "SLOWEST_BYTES_PER_S", series.files[0].stat().st_size / 30)
        store_dimse(archive.peer(), series.files[:1])


def test_an_archive_that_takes_nothing_of_it_is_said_to_be_there(series: Series) -> None:
    with Archive(lambda _: 0) as archive:
        archive._server.contexts = [build_context(Verification)]
        with pytest.raises(UserDataError, match="takes none of what was offered: CT Image Storage"):
            store_dimse(archive.peer(), series.files[:1])


def test_a_peer_that_has_no_room_for_an_association_is_tried_again(series: Series) -> None:
    with Archive(lambda _: 0) as archive:
        archive._ae.maximum_associations = 1
        ae = AE(ae_title="ITERSEG")
        ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
        other = ae.associate("127.0.0.1", archive.peer().port, ae_title="ARCHIVE")
        assert other.is_established
        with pytest.raises(TransientError, match="takes no more associations now"):
            store_dimse(archive.peer(), series.files)
        other.release()


def _hang(_: Any) -> int:
    threading.Event().wait(3)
    return 0


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda _: 0xA700, TransientError, "has no room"),
        (lambda _: 0xC000, UserDataError, "refuses the object"),
        (_hang, TransientError, "did not answer"),
    ],
)
def test_an_answer_that_is_none_is_said(
    series: Series,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Any], int],
    kind: type[Exception],
    words: str,
) -> None:
    if answer is _hang:
        monkeypatch.setattr(sender, "TIMEOUT_S", 1.0)
    with Archive(answer) as archive, pytest.raises(kind, match=words):
        store_dimse(archive.peer(), series.files)


def test_a_warning_is_an_answer(series: Series) -> None:
    with Archive(lambda _: 0xB000) as archive:
        store_dimse(archive.peer(), series.files)


def test_whoever_is_not_known_there_is_told(series: Series) -> None:
    with Archive(lambda _: 0) as archive, pytest.raises(UserDataError, match="refuses STRANGER"):
        store_dimse(archive.peer("STRANGER"), series.files)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom's socket
def test_nobody_there_is_tried_again(series: Series) -> None:
    with Archive(lambda _: 0) as archive:
        gone = archive.peer()
    with pytest.raises(TransientError, match="cannot be reached"):
        store_dimse(gone, series.files)


def test_a_syntax_that_the_archive_does_not_know_is_said(series: Series) -> None:
    ds = pydicom.dcmread(series.files[0])
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(series.files[0])
    with Archive(lambda _: 0) as archive, pytest.raises(UserDataError, match="does not take such an object"):
        store_dimse(archive.peer(), series.files)


class Web(BaseHTTPRequestHandler):
    """A DICOMweb server with one answer for everything."""

    status = 200
    kind, body = "application/dicom+json", b"{}"
    got: ClassVar[list[bytes]] = []

    moved = 0
    """The status by which it sends elsewhere, where somebody else answers."""

    def do_POST(self) -> None:
        self.got.append(self.rfile.read(int(self.headers["content-length"])))
        if self.moved and not self.path.startswith("/moved"):
            self.send_response(self.moved)
            self.send_header("Location", "/moved")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_is_stored_by_web_is_whole_though_its_file_is_of_an_old_export(web: str, series: Series) -> None:
    Web.got.clear()
    for file in series.files:
        without_preamble(file, meta=False)
    store_web(web, series.files)
    (body,) = Web.got
    assert body.count(bytes(128) + b"DICM") == len(series.files)


FAILED = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}'
STORED = b'{"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]}}'


@pytest.mark.parametrize("parameter", ["", "; charset=utf-8"])
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (202, FAILED, "refuses 1 of 5 objects .reason 0x0110"),
        (409, FAILED, "refuses 1 of 5 objects .reason 0x0110"),
        (409, b"{}", "refuses all 5 objects"),
        (202, b"{}", "refuses some of 5 objects, and does not say which"),
        (202, STORED, ""),  # with a remark
        (200, STORED, ""),
    ],
)
def test_what_a_web_server_has_not_stored_is_said(
    web: str,
    series: Series,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    words: str,
    parameter: str,
) -> None:
    monkeypatch.setattr(Web, "status", status)
    monkeypatch.setattr(Web, "body", body)
    monkeypatch.setattr(Web, "kind", f"application/dicom+json{parameter}")
    with pytest.raises(UserDataError, match=words) if words else nullcontext():
        store_web(web, series.files)


LOGIN = b"<html>Who are you?</html>"


def test_a_login_page_has_stored_nothing(web: str, series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    """Well, and not from DICOMweb: the journal would hold it for sent, for ever."""
    monkeypatch.setattr(Web, "kind", "text/html; charset=utf-8")
    monkeypatch.setattr(Web, "body", LOGIN)
    with pytest.raises(ConfigError, match="answers with text/html.*is a login or a proxy in between"):
        store_web(web, series.files)


@pytest.mark.parametrize(("status", "stored"), [(302, False), (303, False), (307, True), (308, True)])
def test_what_is_sent_elsewhere_is_stored_if_it_is_still_sent(
    web: str, series: Series, monkeypatch: pytest.MonkeyPatch, status: int, stored: bool
) -> None:
    """What moves for a while is asked for, and no longer posted."""
    monkeypatch.setattr(Web, "moved", status)
    monkeypatch.setattr(Web, "body", STORED)
    with nullcontext() if stored else pytest.raises(ConfigError, match="is a login or a proxy in between"):
        store_web(web, series.files)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (503, TransientError, "answered 503"),
        (401, ConfigError, "refuses access"),
        (404, UserDataError, "is the address the root"),
    ],
)
def test_a_web_server_that_refuses_is_said(
    web: str,
    series: Series,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.setattr(Web, "status", status)
    with pytest.raises(kind, match=words):
        store_web(web, series.files)
