"""Simulate: play a lab through many rounds, to see what a way of working is worth before anybody draws.

Inputs: a labelled dataset and ``config/simulation_<dataset_id>.yaml``. Output: learning and effort curves,
``data/results/<dataset_id>/simulation/``. Command: ``iterseg simulate DATASET``.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.ingest import ingest
from flows.iterate import iterate
from flows.parameters import ClusterName, DatasetId, run_name
from flows.plan import plan
from tasks.dicom.reasons import Reason
from tasks.errors import ConfigError
from tasks.keep_test_set import patients_of_test_set
from tasks.ledger.home import at_home
from tasks.ledger.lineages import current_lineage
from tasks.ledger.paths import DatasetPaths
from tasks.settings.dataset import load_dataset_settings
from tasks.settings.simulation import Simulation, load_simulation
from tasks.shown.artifacts import show_table
from tasks.simulate import choose, deliver, note_round, write_curves
from tasks.simulated_lab import Lab, keep_first_round, open_lab, truth_of
from tasks.state import require_dataset, state_at


@flow(name="simulate", flow_run_name=run_name("simulate"))
def simulate(
    dataset_id: DatasetId,
    arms: Annotated[list[str] | None, Field(description="Some arms only.")] = None,
    seeds: Annotated[list[int] | None, Field(description="Some seeds only.")] = None,
    cluster: ClusterName = "local",
) -> dict[str, Any]:
    """Every arm with every seed, round by round; what is finished is not done again."""
    source = DatasetPaths.of(dataset_id)
    simulation = load_simulation(source.config, dataset_id)
    require_dataset(source)
    labs = _labs(source, simulation, arms, seeds)
    truth_of(source)
    for number in range(1, simulation.rounds + 1):
        for lab in labs:
            if len(lab.rounds()) < number:
                _round(lab, simulation, number, cluster)
                write_curves(source, simulation)
    page, rows = write_curves(source, simulation)
    show_table("simulate", dataset_id, rows, f"drawn in {page}")
    return {"stage": "simulate", "rows": rows, "report": str(page), "cases": [], "totals": {}}


def _labs(
    source: DatasetPaths, simulation: Simulation, arms: list[str] | None, seeds: list[int] | None
) -> list[Lab]:
    for option, chosen, known in (("arm", arms, simulation.arms), ("seed", seeds, simulation.seeds)):
        strangers = [str(one) for one in chosen or [] if one not in known]
        if strangers:
            there = ", ".join(map(str, known))
            raise ConfigError(f"there is no {option} {', '.join(strangers)}; the file names {there}")
    return [
        Lab(source, name, arm, seed)
        for seed in simulation.seeds
        for name, arm in simulation.arms.items()
        if (not arms or name in arms) and (not seeds or seed in seeds)
    ]


def _round(lab: Lab, simulation: Simulation, number: int, cluster: str) -> None:
    """The reader draws, and the night that follows learns from it."""
    dataset_id = lab.source.dataset_id
    open_lab(lab, simulation)
    if len(lab.rounds()) >= number:  # another arm has begun alike
        return
    with at_home(lab.home):
        if number == 1:
            ingest(dataset_id)
            _settle_test_set(lab)
        chosen = choose(lab, simulation, number)
        if not chosen:
            raise ConfigError(
                f"{lab.label} has no case left to correct in round {number}: set fewer `rounds` or a smaller "
                "`budget`"
            )
        deliver(lab, number, chosen)
        if number > 1 and lab.arm.start == "scratch":
            _from_scratch(lab, number)
        iterate(dataset_id, cluster)
    note_round(lab, number, chosen)
    if number == 1:
        keep_first_round(lab, simulation)


def _from_scratch(lab: Lab, number: int) -> None:
    """Begin a lineage for a round, unless a run that was killed has begun it."""
    why, lineage = f"simulated: round {number} from scratch", current_lineage(lab.paths)
    if lineage is None or lineage.why != why:
        plan(lab.source.dataset_id, new_lineage=True, why=why)


def _settle_test_set(lab: Lab) -> None:
    """Who is in the test set is settled before anything is drawn, as for every image that comes in."""
    settings = load_dataset_settings(lab.paths.config, lab.paths.dataset_id)
    waiting = [c for c in state_at(lab.paths, settings)[0].images if c.reason == Reason.UNLABELLED]
    patients = {case.patient for case in waiting}
    patients_of_test_set(lab.paths.dataset_id, patients, settings, from_outside=False)
