"""What became of a model, in words: the same on the page, on the terminal and in the UI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def fate_of(model: Mapping[str, Any], in_use: str | None) -> str:
    """Whether a model (the fields of its record) is in use, was, or why it never was."""
    if model["model_id"] == in_use:
        return "in use"
    if model["promoted"]:
        return "was in use"
    if model["accepted"]:
        return "never in use"
    return f"not put into use: {why_not(model)}"


def elsewhere(verdict: Mapping[str, Any]) -> str:
    """Where a structure was compared, if not where the others were."""
    basis = verdict.get("basis")
    return f", by {basis}: no test case has it" if basis else ""


def why_not(model: Mapping[str, Any]) -> str:
    """In which structures a candidate is worse than the model that was in use, or might be."""
    against = f"against {model['compared_with']} on the {model['basis']}"
    changes = ", ".join(
        f"{v['structure']} {change_in_words(v)}" for v in model["verdicts"] if not v["non_inferior"]
    )
    return f"{against}: {changes}" if changes else against


def change_in_words(verdict: Mapping[str, Any]) -> str:
    """By how much a structure's Dice changed, and in how many cases the model sees what is not there."""
    said = []
    if verdict["difference"] is not None:
        bound = f"at least {verdict['lower_bound']:+.3f}{elsewhere(verdict)}"
        said.append(f"{verdict['difference']:+.3f} ({bound})")
    # Older verdicts have none: a false alarm was a Dice of 0 beside one of 1.
    now, before = verdict.get("false_alarms", 0), verdict.get("false_alarms_before", 0)
    if now or before:
        of = f" of {verdict['empty']}" if verdict.get("empty") else ""
        said.append(f"false alarms in {now}{of} cases, and no more in {before}")
    return "; ".join(said) or "not compared"


def score_in_words(value: float | None, digits: int = 3) -> str:
    """A score as people read it; one that is not defined is a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def cases_with_distance(test_cases: Sequence[Mapping[str, Any]], structure: str) -> tuple[int, int]:
    """Of how many test cases a mean distance is, and how many have the structure, drawn or predicted.

    Where a mask is empty there is no distance.
    """
    scored = [row for row in test_cases if row["dice"].get(structure) is not None]
    return sum(row["hd95_mm"].get(structure) is not None for row in scored), len(scored)


def of_cases(defined: int, scored: int) -> str:
    """The same in words, where it is not of all."""
    return f" ({defined} of {scored} cases)" if defined < scored else ""
