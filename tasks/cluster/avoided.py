"""Which nodes jobs are kept away from for the rest of a run, since jobs died there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tasks.cluster.slurm_job import script_of
from tasks.cluster.slurm_queue import refusal, slurm
from tasks.errors import ConfigError, TransientError

STRIKES = 2
"""A node on which so many jobs died is avoided for the rest of the run."""
MOST_AVOIDED = 5
"""Nodes; where jobs die on more of them it is not the nodes' fault."""
FAULTS = ("FAILED", "NODE_FAIL", "BOOT_FAIL")
"""How a job ends whose worker had begun, by no will of anybody and within its limits."""
WILLED = ("CANCELLED", "PREEMPTED")
EXCLUDE = "--exclude="
NO_NODE = ("", "(null)", "None assigned")


def is_a_strike(row: Mapping[str, str], *, began: bool) -> bool:
    """Whether a job's end is held against its node; ``began``: its worker had."""
    fault = row["state"] in FAULTS if began else row["state"] not in WILLED
    return fault and row["node"] not in NO_NODE


def keep_away(options: dict[str, Any], strikes: Mapping[str, int], excluded: Sequence[str]) -> bool:
    """Where jobs die one after another, others shall not follow, as long as there are other nodes.

    Parameters
    ----------
    options
        Of the jobs that are still to come; changed in place.
    excluded
        What the user keeps away from.

    Returns
    -------
    Whether there is a node more from which jobs are kept away now.
    """
    bad = sorted(node for node, count in strikes.items() if count >= STRIKES)
    if not bad or len(bad) > MOST_AVOIDED:
        return False
    before = options["job_extra_directives"]
    kept = [d for d in before if not d.startswith(EXCLUDE)]
    directives = [*kept, f"{EXCLUDE}{','.join([*excluded, *bad])}"]
    # Where it cannot be asked now, for Slurm is away or the temporary folder full, the next look does.
    with suppress(TransientError, OSError):
        if refusal(script_of({**_plain(options), "job_extra_directives": directives})) is None:
            options["job_extra_directives"] = directives
    return bool(options["job_extra_directives"] != before)


def excluded_by(options: Mapping[str, Any]) -> str:
    """The nodes on which jobs with these options do not run, as Slurm lists them; a user may give ranges."""
    lists = [d.removeprefix(EXCLUDE) for d in options["job_extra_directives"] if d.startswith(EXCLUDE)]
    return ",".join(lists)


def send_elsewhere(job_ids: Collection[str], nodes: str) -> None:
    """Keep jobs that wait already away from nodes, too; else they go there one after another."""
    # Of one that has begun meanwhile scontrol says so, and goes on; or the controller is away.
    with suppress(ConfigError, TransientError):
        if job_ids:
            slurm("scontrol", "update", f"JobId={','.join(sorted(job_ids))}", f"ExcNodeList={nodes}")


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    own = ("config_name", "protocol", "security")
    return {key: value for key, value in options.items() if key not in own}
