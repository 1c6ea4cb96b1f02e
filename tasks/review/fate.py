"""What became of a model, in words: the same on the page, on the terminal and in the UI."""

from __future__ import annotations

from collections.abc import Mapping
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
        f"{v['structure']} {v['difference']:+.3f} (at least {v['lower_bound']:+.3f}{elsewhere(v)})"
        for v in model["verdicts"]
        if not v["non_inferior"]
    )
    return f"{against}: {changes}" if changes else against


def score_in_words(value: float | None) -> str:
    """A score as people read it; one that is not defined is a dash."""
    return "–" if value is None else f"{value:.3f}"
