"""OHIF in a browser, on the images of a DICOMweb server: `make viewer`.

    ITERSEG_DICOMWEB=http://127.0.0.1:8042/dicom-web make viewer

Serves OHIF's own files, and passes /dicom-web on to the server, with the credentials of the environment
(ITERSEG_DICOMWEB_USER and _PASSWORD), so that the browser needs none and meets one origin. Listens on
loopback alone: whoever opens it to others puts a proxy with TLS and a login before it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import httpx
import numpy as np
import requests
import uvicorn
from dicomweb_client import DICOMwebClient
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tasks.dicom.bits import close_gaps

HERE = Path(__file__).parent
OHIF = Path(os.environ.get("ITERSEG_OHIF") or HERE.parent.parent / ".venv" / "viewer" / "package" / "dist")
TIMEOUT_S = 120.0
BETWEEN_HOPS = {"connection", "host", "keep-alive", "transfer-encoding", "authorization"}
"""Headers that are one connection's own (RFC 9110 7.6.1), and credentials, which are ours."""
FRAME = re.compile(r"studies/([0-9.]+)/series/([0-9.]+)/instances/([0-9.]+)/frames/(\d+)")


def application(root: str) -> Starlette:
    """The viewer on the DICOMweb services below a root."""
    user = os.environ.get("ITERSEG_DICOMWEB_USER")
    login = (user, os.environ.get("ITERSEG_DICOMWEB_PASSWORD", "")) if user else None

    @asynccontextmanager
    async def opened(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(auth=login, timeout=TIMEOUT_S) as client:
            app.state.client = client
            yield

    async def pass_on(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in BETWEEN_HOPS]
        url = httpx.URL(f"{root.rstrip('/')}/{request.path_params['path']}", query=request.url.query.encode())
        outgoing = client.build_request(
            request.method, url, headers=headers, content=await request.body() or None
        )
        try:
            answer = await client.send(outgoing, stream=True)
            frame = FRAME.fullmatch(request.path_params["path"])
            if answer.is_error and frame is not None:
                bits = await run_in_threadpool(one_bit_frame, root, login, *frame.groups())
                if bits is not None:
                    await answer.aclose()
                    return _multipart(bits)
        except httpx.HTTPError as error:
            return PlainTextResponse(f"the DICOMweb server does not answer ({type(error).__name__})", 502)
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in BETWEEN_HOPS}
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, kept, background=BackgroundTask(answer.aclose)
        )

    async def page(request: Request) -> Response:
        """A file of OHIF's; every other path is one of its pages, which it finds by itself."""
        if request.url.path == "/app-config.js":
            return FileResponse(HERE / "app-config.js", media_type="text/javascript")
        file = (OHIF / request.url.path.lstrip("/")).resolve()
        if file.is_file() and file.is_relative_to(OHIF.resolve()):
            return FileResponse(file)
        return FileResponse(OHIF / "index.html")

    return Starlette(
        lifespan=opened,
        routes=[
            Route("/dicom-web/{path:path}", pass_on, methods=["GET", "POST", "OPTIONS", "HEAD"]),
            Route("/{path:path}", page),
        ],
    )


def one_bit_frame(
    root: str, login: tuple[str, str] | None, study: str, series: str, instance: str, number: str
) -> bytes | None:
    """A frame of a BINARY SEG, padded to whole bytes; None where it is something else.

    Frames of one bit a pixel follow each other without a gap (PS3.5 8.1.1), so that one whose pixels are no
    multiple of 8 begins within a byte. Orthanc refuses to cut it out, and OHIF asks for nothing else.
    """
    try:
        size, bits = _bits(root, login, study, series, instance)
    except (requests.RequestException, AttributeError, ValueError):
        return None
    first = (int(number) - 1) * size
    return np.packbits(bits[first : first + size], bitorder="little").tobytes() if size else None


@lru_cache(maxsize=4)
def _bits(
    root: str, login: tuple[str, str] | None, study: str, series: str, instance: str
) -> tuple[int, NDArray[np.uint8]]:
    """Pixels a frame and all pixels of a SEG, a frame of which is asked for after the other."""
    with requests.Session() as session:
        session.auth = login
        seg = DICOMwebClient(root, session=session).retrieve_instance(study, series, instance)
    if seg.BitsAllocated != 1:
        return 0, np.zeros(0, dtype=np.uint8)
    close_gaps(seg)  # what OHIF has saved before
    packed = np.frombuffer(seg.PixelData, dtype=np.uint8)
    return int(seg.Rows) * int(seg.Columns), np.unpackbits(packed, bitorder="little")


def _multipart(content: bytes) -> Response:
    """As a DICOMweb server answers (PS3.18 8.6.1.2)."""
    head = b"--frame\r\nContent-Type: application/octet-stream\r\n\r\n"
    kind = 'multipart/related; type="application/octet-stream"; boundary=frame'
    return Response(head + content + b"\r\n--frame--\r\n", headers={"content-type": kind})


def main() -> None:
    """Serve until stopped."""
    if not (OHIF / "index.html").is_file():
        sys.exit(f"error: there is no OHIF in {OHIF}; `make viewer` fetches it")
    root = os.environ.get("ITERSEG_DICOMWEB", "http://127.0.0.1:8042/dicom-web")
    port = int(os.environ.get("PORT", "3000"))
    print(f"http://127.0.0.1:{port} shows what {root} has", flush=True)
    uvicorn.run(application(root), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
