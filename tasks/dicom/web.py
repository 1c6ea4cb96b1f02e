"""A DICOMweb server: which series it has (QIDO-RS), their instances (WADO-RS), and more (STOW-RS); PS3.18."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from tasks.dicom.written import read_to_send
from tasks.errors import ConfigError, TransientError, UserDataError

WANTED_MODALITIES = ("CT", "MR", "RTSTRUCT", "SEG")
PAGE = 200
"""Series, or instances, of a question: servers cut long answers off at numbers of their own."""
TIMEOUT_S = 120
"""Of one answer; a large multi-frame image is one."""
ANY_SYNTAX = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
"""As it is stored: a server that transcodes would send other bytes, and other voxels if lossy."""
JSON = "application/dicom+json"
CONFLICT = 409
"""The answer of a server that has stored none of what it was sent, with the reasons (PS3.18 10.5.3)."""
SOME_FAILED = 202
USER, PASSWORD, TOKEN = "ITERSEG_DICOMWEB_USER", "ITERSEG_DICOMWEB_PASSWORD", "ITERSEG_DICOMWEB_TOKEN"


@dataclass(frozen=True)
class RemoteSeries:
    """A series of a server."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str

    @property
    def wanted(self) -> bool:
        """Whether it may hold images or segmentations; of one that names no modality nobody knows."""
        return not self.modality or self.modality in WANTED_MODALITIES


class DicomWeb:
    """A DICOMweb server.

    Parameters
    ----------
    url
        The root of its services, such as ``https://pacs/dicom-web``. User and password, or a bearer
        token, come from the environment: ``ITERSEG_DICOMWEB_USER`` and ``_PASSWORD``, or ``_TOKEN``.
    timeout_s
        Of each answer.
    name
        Of a destination, in capitals behind an underscore in variables of its own, which go before the
        others: no server is shown what opens another one.

    Raises
    ------
    ConfigError
        Where the URL is none, or names a user itself.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, name: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("a DICOMweb address begins with http:// or https://")
        if parts.username or parts.password:
            raise ConfigError(f"leave user and password out of the address; set {USER} and {PASSWORD}")
        session = requests.Session()
        user, password, token = _credentials(name)
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        elif user:
            session.auth = (user, password)
        session.headers["Accept"] = JSON  # of what was stored, a server would say it in XML else
        self._url, self._session, self._timeout_s = url.rstrip("/"), session, timeout_s
        self._answer = requests.Response()
        session.hooks["response"].append(self._heard)
        self._client = DICOMwebClient(url, session=session, timeout=timeout_s)
        # The task is retried as a whole.
        self._client.set_http_retry_params(retry=False)

    def _heard(self, answer: requests.Response, **_: object) -> None:
        """Keep the last answer: the client tells only some of what it says."""
        self._answer = answer

    def answers(self) -> None:
        """Ask for one study, and forget it; raises what :meth:`series` raises."""
        with _told():
            self._client.search_for_studies(limit=1)

    def series(self, study_instance_uid: str | None = None) -> Iterator[RemoteSeries]:
        """The series of one study or of all, whatever their modality."""
        seen: set[str] = set()
        offset = 0
        while True:
            with _told():
                page = self._client.search_for_series(
                    study_instance_uid, fields=["Modality"], limit=PAGE, offset=offset
                )
                found = [_remote_series(Dataset.from_json(item), study_instance_uid) for item in page]
            fresh = [item for item in found if item.series_instance_uid not in seen]
            seen |= {item.series_instance_uid for item in fresh}
            yield from fresh
            offset += len(page)
            # A server may send fewer than it was asked for (PS3.18 8.3.4.4), and one that knows no offset
            # sends the same page for ever.
            if not fresh:
                return

    def instances(self, series: RemoteSeries) -> set[str]:
        """The SOPInstanceUIDs of a series."""
        found: set[str] = set()
        while True:
            with _told():
                page = self._client.search_for_instances(
                    series.study_instance_uid, series.series_instance_uid, limit=PAGE, offset=len(found)
                )
                uids = {str(Dataset.from_json(item).SOPInstanceUID) for item in page}
            if uids <= found:
                return found
            found |= uids

    def retrieve(self, series: RemoteSeries) -> Iterator[bytes]:
        """The instances of a series, as files: byte for byte what the server sends, damage and all.

        The client's own way reads and writes them anew: one that is damaged would end the series, and what
        is wrong with another one could not be seen any more.
        """
        where = f"studies/{quote(series.study_instance_uid)}/series/{quote(series.series_instance_uid)}"
        with (
            _told(),
            self._session.get(
                f"{self._url}/{where}", headers=ANY_SYNTAX, stream=True, timeout=self._timeout_s
            ) as response,
        ):
            response.raise_for_status()
            if response.headers["Content-Type"].startswith("application/dicom"):
                yield response.content  # against the standard, and there are servers that do it
            else:
                parts = self._client._decode_multipart_message(response, stream=True)
                yield from (bytes(part) for part in parts)

    def store(self, files: Sequence[Path]) -> None:
        """Store instances, those of a study together (STOW-RS).

        Raises
        ------
        UserDataError
            Where the server refuses one of them.
        """
        studies: dict[str, list[Dataset]] = defaultdict(list)
        for file in files:
            dataset = read_to_send(file)
            studies[str(dataset.StudyInstanceUID)].append(dataset)
        for study, datasets in studies.items():
            with _told():
                if refused := self._refused(study, datasets):
                    raise UserDataError(f"the DICOMweb server refuses {refused}")

    def _refused(self, study: str, datasets: Sequence[Dataset]) -> str:
        """Store the instances of a study; which of them the server has not stored, and why, in words."""
        with suppress(requests.HTTPError):
            self._client.store_instances(datasets, study_instance_uid=study)
        answer = self._answer
        if answer.status_code != CONFLICT:
            answer.raise_for_status()
        kind = answer.headers.get("Content-Type", "")  # with whatever parameters behind it
        # A POST that was sent elsewhere arrives as a GET, and a login page is well, too: nothing was stored.
        if answer.request.method != "POST" or (answer.content and not re.search("json|xml", kind)):
            raise ConfigError(
                f"the DICOMweb server answers with {kind or 'nothing'}: is a login or a proxy in between? "
                "Mend the address, or what it takes to be let through"
            )
        said = Dataset()
        if "json" in kind:
            said = Dataset.from_json(answer.json())
        if failed := [item for item in said.get("FailedSOPSequence") or [] if item.get("FailureReason")]:
            return f"{len(failed)} of {len(datasets)} objects (reason 0x{int(failed[0].FailureReason):04X})"
        if answer.status_code == CONFLICT:
            return f"all {len(datasets)} objects, and does not say why"
        if answer.status_code == SOME_FAILED and "ReferencedSOPSequence" not in said:
            return f"some of {len(datasets)} objects, and does not say which"
        return ""


def _credentials(name: str) -> tuple[str, str, str]:
    """User, password and token: those of a destination if there are any, else those of all."""
    variables = (USER, PASSWORD, TOKEN)
    own = [f"{variable}_{re.sub('[^0-9A-Z]', '_', name.upper())}" for variable in variables]
    chosen = own if name and any(os.environ.get(variable) for variable in own) else variables
    user, password, token = (os.environ.get(variable, "") for variable in chosen)
    return user, password, token


def _remote_series(item: Dataset, study_instance_uid: str | None) -> RemoteSeries:
    return RemoteSeries(
        str(item.get("StudyInstanceUID") or study_instance_uid or ""),
        str(item.SeriesInstanceUID),
        str(item.get("Modality") or ""),
    )


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong on the network, as who must act; without addresses, which may name a patient."""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ConfigError(
                f"the DICOMweb server refuses access ({status}); set {USER} and {PASSWORD}, or {TOKEN}"
            ) from None
        if status >= 500 or status in (408, 429):
            raise TransientError(f"the DICOMweb server answered {status}") from None
        raise UserDataError(
            f"the DICOMweb server answered {status}; is the address the root of its services?"
        ) from None
    except requests.Timeout:
        raise TransientError("the DICOMweb server did not answer in time") from None
    except requests.RequestException as error:
        raise TransientError(f"the DICOMweb server cannot be reached ({type(error).__name__})") from None
    except (ValueError, KeyError, AttributeError) as error:
        raise UserDataError(
            f"the answer of the DICOMweb server is none ({type(error).__name__}); is the address the root of "
            "its services?"
        ) from None
