"""Whether the services answer that a lab needs: Prefect's server and worker, and where predictions go."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefect.settings import PREFECT_API_URL

from tasks.cluster.runner import is_reachable_from_nodes
from tasks.doctor.verdicts import Verdict
from tasks.errors import IterSegError
from tasks.processes.prefect_api import ANSWER_S, NotOursError, ask, version_of
from tasks.settings.cluster import ClusterSettings
from tasks.settings.dataset import DatasetSettings
from tasks.settings.output import Destination

POOL = "iterseg"
"""The work pool of deployments/prefect.yaml."""
SERVER, WORKER = "Prefect's server", "Prefect's worker"


def examine_services(cluster: ClusterSettings, datasets: Mapping[str, DatasetSettings]) -> Iterator[Verdict]:
    """Ask each of them; nothing is started, and nothing is sent."""
    server = _server(cluster)
    yield server
    if server.good and PREFECT_API_URL.value():
        yield _worker([name for name, settings in datasets.items() if settings.night])
    seen: list[Destination] = []
    for settings in datasets.values():
        for destination in settings.send_to:
            if destination not in seen:
                seen.append(destination)
                yield _destination(destination)


def _server(cluster: ClusterSettings) -> Verdict:
    url, jobs = PREFECT_API_URL.value(), cluster.kind == "slurm"
    if not url and not jobs:
        return Verdict(SERVER, True, "none is set: each command starts one for as long as it runs")
    if not url:
        mend = "one that nodes can reach: docs/cluster.md, step 3"
        return Verdict(SERVER, False, "PREFECT_API_URL is not set", mend)
    if jobs and not is_reachable_from_nodes(url, cluster):
        mend = "set PREFECT_API_URL to an address that nodes can reach: they are given this one"
        return Verdict(SERVER, False, f"{url} is this machine's own", mend)
    return _answering(url)


def _answering(url: str) -> Verdict:
    try:
        theirs = version_of(url, alike=2)
    except NotOursError as error:
        return Verdict(SERVER, False, error.said, error.mend)
    except (OSError, ValueError) as error:
        return Verdict(SERVER, False, f"{url}: {error}", "is it running? `make server`, or look at its log")
    return Verdict(SERVER, True, f"{url}, Prefect {theirs}")


def _worker(nightly: Sequence[str]) -> Verdict:
    """A worker starts the runs of the deployments; who uses the command line alone needs none."""
    needed = f"by the nights of {', '.join(nightly)}" if nightly else "for deployments and nights only"
    try:
        found = _asked(f"/work_pools/{POOL}/workers/filter", {})
    except urllib.error.HTTPError:
        return Verdict(WORKER, not nightly, f"there is no work pool {POOL}; needed {needed}", "`make deploy`")
    except (OSError, ValueError) as error:
        return Verdict(WORKER, not nightly, str(error), "look at the server's log")
    online = [worker["name"] for worker in found if worker.get("status") == "ONLINE"]
    if online:
        return Verdict(WORKER, True, f"{len(online)} online")
    return Verdict(
        WORKER, not nightly, f"none is online; needed {needed}", "`make worker`, or its systemd unit"
    )


def _asked(path: str, body: object = None) -> Any:
    return ask(PREFECT_API_URL.value() or "", path, body)


def _destination(destination: Destination) -> Verdict:
    from tasks.dicom.sender import Peer, echo
    from tasks.dicom.web import DicomWeb

    what = f"predictions to {destination.name}"
    try:
        if destination.dicomweb:
            DicomWeb(destination.dicomweb, ANSWER_S, destination.name).answers()
            return Verdict(what, True, f"{destination.dicomweb} answers")
        echo(Peer.of(destination), ANSWER_S)
        return Verdict(what, True, f"{destination.aet} at {destination.host}:{destination.port} answers")
    except IterSegError as error:
        return Verdict(what, False, str(error), "mend `send_to`, or start what should answer there")
