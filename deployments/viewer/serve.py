"""OHIF in a browser, on the images of a DICOMweb server: `make viewer`.

    ITERSEG_DICOMWEB=http://127.0.0.1:8042/dicom-web make viewer

Serves OHIF's own files, and passes /dicom-web on to the server, with the credentials of the environment
(ITERSEG_DICOMWEB_USER and _PASSWORD), so that the browser needs none and meets one origin. Listens on
loopback alone: whoever opens it to others puts a proxy with TLS and a login before it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

HERE = Path(__file__).parent
OHIF = Path(os.environ.get("ITERSEG_OHIF") or HERE.parent.parent / ".venv" / "viewer" / "package" / "dist")
TIMEOUT_S = 120.0
BETWEEN_HOPS = {"connection", "host", "keep-alive", "transfer-encoding", "authorization"}
"""Headers that are one connection's own (RFC 9110 7.6.1), and credentials, which are ours."""


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
