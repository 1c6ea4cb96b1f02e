"""``prefect server start`` that does not stand still: ``python -m tasks.processes.prefect_server``.

Killed clients leave cursors of SQLite behind that only the garbage collector finds. Where it does so in
the thread of the event loop, ``sqlite3_reset`` waits for the mutex of the cursor's connection, which
another thread holds while it waits for the one write lock, whose holder waits for the event loop:
nothing is answered until SQLite gives up after 60 s ("database is locked"). In a thread of its own the
collector waits alone, since a reset releases the GIL. (``--background`` starts another program, which has no
such thread.)
"""

from __future__ import annotations

import gc
import sys
import time
from threading import Thread
from typing import Any

POLICY = (b"content-security-policy", b"connect-src 'self' ws: wss:; form-action 'self'")
"""Web sockets by any name: older browsers do not count them to 'self'."""
YOUNG_S = 1.0
ALL_AFTER = 60
"""How often what is young is collected, and after how many times of it everything, older cycles among it."""


def collect_garbage_aside() -> None:
    """From now on, no thread but one that does nothing else collects this process's garbage."""
    gc.disable()
    Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    times = 0
    while True:
        time.sleep(YOUNG_S)
        times += 1
        gc.collect(2 if times % ALL_AFTER == 0 else 1)


def ask_nobody_else() -> None:
    """From now on, browsers let the pages of this server ask this server alone.

    Prefect's UI asks a service for analytics how it is configured, whether analytics are on or off.
    """
    from prefect.server.api import server
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    create_app = server.create_app

    class OnlyThisServer:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def send_with_policy(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], POLICY]}
                await send(message)

            await self.app(scope, receive, send_with_policy if scope["type"] == "http" else send)

    def create_closed_app(*arguments: Any, **options: Any) -> Any:
        app = create_app(*arguments, **options)
        app.add_middleware(OnlyThisServer)
        return app

    server.create_app = create_closed_app


def main() -> None:
    """Start it as ``prefect server start`` does, with its options."""
    collect_garbage_aside()
    ask_nobody_else()
    from prefect.cli import app

    # It would ask whether to keep the address in a profile, and not serve before somebody answers.
    sys.argv[1:1] = ["--no-prompt", "server", "start"]
    app()


if __name__ == "__main__":
    main()
