"""Every series and instance of a DICOMweb server is listed, however few it tells of at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tasks.dicom.web import DicomWeb, RemoteSeries
from tasks.errors import IterSegError, TransientError

SERIES, INSTANCES = 25, 23


class Server(ThreadingHTTPServer):
    """Answers searches with at most ``cap`` rows (PS3.18 8.3.4.4); one may not know `offset`."""

    cap = 10
    knows_offset = True
    names_uids = True


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        offset = int(query.get("offset", ["0"])[0]) if self.server.knows_offset else 0
        limit = min(self.server.cap, int(query.get("limit", ["1000"])[0]))
        tag, most = ("00080018", INSTANCES) if "instances" in parts.path else ("0020000E", SERIES)
        numbers = range(offset, min(offset + limit, most))
        rows = [
            {tag: {"vr": "UI", "Value": [f"1.2.{n + 1}"]}} if self.server.names_uids else {} for n in numbers
        ]
        content = json.dumps(rows).encode()
        self.send_response(200 if rows else 204)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content) if rows else 0))
        self.end_headers()
        if rows:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("cap", "knows_offset", "series", "instances"),
    [
        (10, True, SERIES, INSTANCES),  # fewer at a time than was asked for
        (25, True, SERIES, INSTANCES),  # just as many as there are
        (1000, True, SERIES, INSTANCES),
        (10, False, 10, 10),  # the same page for ever
    ],
)
def test_a_server_is_asked_until_it_has_no_more(
    server: Server, cap: int, knows_offset: bool, series: int, instances: int
) -> None:
    server.cap, server.knows_offset = cap, knows_offset
    web = DicomWeb(f"http://127.0.0.1:{server.server_port}")
    assert len(list(web.series())) == series
    assert len(web.instances(RemoteSeries("1.2", "1.2.3", "CT"))) == instances


def test_a_server_that_names_no_uid_is_no_end_of_the_retrieval(server: Server) -> None:
    server.names_uids = False
    web = DicomWeb(f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(IterSegError):
        list(web.series())
    with pytest.raises(IterSegError):
        web.instances(RemoteSeries("1.2", "1.2.3", "CT"))


class Archive(BaseHTTPRequestHandler):
    """Sends two parts for any series, of which the first is no DICOM."""

    def do_GET(self) -> None:
        body = b"".join(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + part for part in PARTS)
        self.send_response(200)
        self.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=b')
        self.end_headers()
        self.wfile.write(body + b"\r\n--b--\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


PARTS = (b"no DICOM at all", bytes(128) + b"DICM" + bytes(range(256)))


def test_what_is_fetched_is_what_was_sent_byte_for_byte() -> None:
    """Also what is damaged: that is for who takes it in to see, and keeps no other away."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Archive) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            web = DicomWeb(f"http://127.0.0.1:{server.server_port}/dicom-web/")
            assert tuple(web.retrieve(RemoteSeries("1.2", "1.2.3", "CT"))) == PARTS
        finally:
            server.shutdown()
            thread.join()


def test_a_server_is_waited_for_as_long_as_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def request(_session: requests.Session, *_: object, **options: float) -> None:
        waited.append(options["timeout"])
        raise requests.Timeout

    monkeypatch.setattr(requests.Session, "request", request)
    web = DicomWeb("http://pacs", timeout_s=7)
    with pytest.raises(TransientError, match="did not answer in time"):
        web.answers()
    with pytest.raises(TransientError, match="did not answer in time"):
        list(web.retrieve(RemoteSeries("1.2", "1.2.3", "CT")))
    assert waited == [7, 7]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"USER": "all", "PASSWORD": "p"}, {"pacs 1": ("all", "p"), "viewer": ("all", "p")}),
        (
            {"USER": "all", "PASSWORD": "p", "USER_PACS_1": "own", "PASSWORD_PACS_1": "q"},
            {"pacs 1": ("own", "q"), "viewer": ("all", "p")},
        ),
        ({"TOKEN_VIEWER": "t"}, {"pacs 1": None, "viewer": "Bearer t"}),
    ],
)
def test_no_server_is_shown_what_opens_another_one(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], shown: dict[str, object]
) -> None:
    for variable, value in given.items():
        monkeypatch.setenv(f"ITERSEG_DICOMWEB_{variable}", value)
    for name, login in shown.items():
        session = DicomWeb("http://pacs", name=name)._session
        assert (session.auth or session.headers.get("Authorization")) == login
