"""What simulated labs learned, as `docs/simulation.md` shows it: pictures, numbers, and a table to copy.

PYTHONPATH=.:tests:tests/bench .venv/bin/python tests/bench/learned.py [HOME DATASET]

Without a home it draws what is published already.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tasks.ledger.files import read_json, write_json, write_text
from tasks.review.curves import standing_alone
from tasks.review.learning import Row, Runs, curves, over_rounds, summary
from tasks.review.scores import mean_of_defined

DOCS = Path(__file__).parents[2] / "docs" / "simulation"
SHOWN = ("dice", "surface-dice", "dice-by-slices", "dice-by-path")


def mean_validation_dice(row: Row) -> float:
    """Over folds and structures, each fold on patients that neither it nor its ancestors trained on."""
    folds = [mean_of_defined(fold.values()) for fold in row["validation_dice"].values()]
    return mean_of_defined(folds) or float("nan")


def finished(content: dict[str, Any]) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """The arms that have all their rounds with all their seeds."""
    wanted, rounds = content["simulation"]["seeds"], content["simulation"]["rounds"]
    return {
        arm: {int(seed): rows for seed, rows in runs.items()}
        for arm, runs in content["arms"].items()
        if len(runs) == len(wanted) and all(len(rows) == rounds for rows in runs.values())
    }


def main() -> None:
    """Publish the arms that are finished."""
    source = DOCS
    if len(sys.argv) > 1:
        source = Path(sys.argv[1]) / "data" / "results" / sys.argv[2] / "simulation"
    content = read_json(source / "rounds.json")
    runs: Runs = finished(content)
    write_json(DOCS / "rounds.json", {**content, "arms": runs})
    drawn = curves(runs)
    for name in SHOWN:
        write_text(DOCS / f"{name}.svg", standing_alone(drawn[name]))
    rows = summary(runs)
    for row in rows:
        row["cross-validated Dice"] = f"{over_rounds(runs, row['arm'], mean_validation_dice)[-1].value:.3f}"
    print("| " + " | ".join(rows[0]) + " |")
    print("|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
