"""Questions to Prefect's server, asked without Prefect's client, which takes seconds to import."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from tasks.errors import ConfigError

ANSWER_S = 5.0
UNPROTECTED = 422
"""Of a server without protection that is asked for a token."""
REFUSED, NOT_FOUND = (401, 403), 404


def ask(url: str, path: str, body: object = None, *, timeout_s: float = ANSWER_S) -> Any:
    """What the server at an API's address answers; with a body by POST.

    Raises
    ------
    OSError
        Where it does not answer; as ``urllib.error.HTTPError`` where it answers that it will not.
    ValueError
        Where it answers something else than JSON.
    """
    from prefect.settings import PREFECT_API_AUTH_STRING

    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}{path}", data=data)  # noqa: S310 - the user's own
    request.add_header("Content-Type", "application/json")
    if data is not None:
        request.headers.update(_leave_to_post(url))
    secret = PREFECT_API_AUTH_STRING.value()
    if secret:
        encoded = base64.b64encode(secret.get_secret_value().encode()).decode()
        request.add_header("Authorization", f"Basic {encoded}")
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
        return json.load(answer)


def _leave_to_post(url: str) -> dict[str, str]:
    """What a server wants with a POST that is protected from other servers' pages (CSRF); else nothing."""
    client = uuid4().hex
    try:
        token = ask(url, f"/csrf-token?client={client}")["token"]
    except urllib.error.HTTPError as error:
        if error.code in (NOT_FOUND, UNPROTECTED):
            return {}
        raise
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}


def version_of(url: str, *, alike: int, timeout_s: float = ANSWER_S) -> str:
    """The version of Prefect's server, which must take us and be alike.

    Parameters
    ----------
    alike
        How many parts of the version must be those of ours.

    Raises
    ------
    NotOursError
        Where another address, password or version is needed.
    OSError
        Where it does not answer, or says that it cannot now.
    """
    try:
        theirs = str(ask(url, "/admin/version", timeout_s=timeout_s))
    except urllib.error.HTTPError as error:
        if error.code in REFUSED:
            raise refused(url) from None
        if error.code != NOT_FOUND:
            raise  # of a proxy, while the server behind it starts
        theirs = ""
    except json.JSONDecodeError:
        theirs = ""
    ours = version("prefect")
    if not theirs:
        raise NotOursError(
            f"what answers at {url} is not Prefect's API",
            "set PREFECT_API_URL to it, as in http://<host>:4200/api",
        )
    if theirs.split(".")[:alike] != ours.split(".")[:alike]:
        raise NotOursError(
            f"{url} is of Prefect {theirs}, and this is {ours}",
            "run the server from the same environment: `make server`",
        )
    return theirs


class NotOursError(ConfigError):
    """What is wrong with a server, and what mends it."""

    def __init__(self, said: str, mend: str) -> None:
        super().__init__(f"{said}; {mend}")
        self.said, self.mend = said, mend


def refused(url: str) -> NotOursError:
    """That the server wants a password, or another one."""
    return NotOursError(f"{url} refuses us", "set PREFECT_API_AUTH_STRING as the server has it")
