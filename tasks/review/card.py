"""The card of a model: where it comes from, what it learned from, how good it is. No case, no path.

After Mitchell et al., Model Cards for Model Reporting (2019), as far as a machine can fill one in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.ledger.files import digest_of, write_json, write_text
from tasks.ledger.iteration_paths import CARD
from tasks.ledger.iterations import Iteration, load_iteration
from tasks.ledger.lineages import Lineage, load_lineages
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths
from tasks.review.fate import cases_with_distance, change_in_words, of_cases, score_in_words

SCORES = {"dice": "Dice", "surface_dice": "surface Dice", "hd95_mm": "HD95, mm"}


def card_of(paths: DatasetPaths, record: ModelRecord) -> dict[str, Any]:
    """The card of a model, with what the ledger says of its iteration and its lineage."""
    lineage = load_lineages(paths)[0].get(record.lineage)
    return model_card(record, paths.dataset_id, load_iteration(record.iteration(paths)), lineage)


def write_card(paths: DatasetPaths, record: ModelRecord) -> None:
    """Write the card beside the weights, for people and for programs."""
    card, folder = card_of(paths, record), paths.home / record.folder
    write_json(folder / CARD, card)
    write_text((folder / CARD).with_suffix(".md"), card_as_markdown(card))


def model_card(
    record: ModelRecord,
    dataset_id: str,
    iteration: Iteration | None = None,
    lineage: Lineage | None = None,
) -> dict[str, Any]:
    """What is known of a model, as plain content.

    Parameters
    ----------
    iteration, lineage
        What it was trained on and under which plans; None: trained elsewhere, or not asked for.
    """
    labels = record.labels
    return {
        "model": record.model_id,
        "dataset": dataset_id,
        "digest": record.digest,
        "created": record.created,
        "parent": record.parent,
        "parent_digest": record.parent_digest,
        "ancestors": record.ancestors,
        "imported_from_sha256": record.imported_from,
        "lineage": record.lineage,
        "plans_sha256": lineage.plans if lineage else None,
        "labels": {name: values if len(values) > 1 else values[0] for name, values in labels.values.items()},
        "mask_strategy": record.mask_strategy,
        "data": _data(record, iteration),
        "folds": {
            fold: {
                "checkpoint_sha256": sha256,
                "epochs": record.epochs.get(fold),
                "training_s": record.training_s.get(fold),
                "validation_dice": record.validation_dice.get(fold, {}),
            }
            for fold, sha256 in record.checkpoints.items()
        },
        "test": {
            "cases": record.cases["test"],
            "dice": record.test_dice,
            "surface_dice": record.test_surface_dice,
            "hd95_mm": record.test_hd95_mm,
            "hd95_cases": {name: cases_with_distance(record.test_cases, name) for name in record.structures},
        },
        "judged": {
            "against": record.compared_with,
            "on": record.basis,
            "verdicts": record.verdicts,
            "accepted": record.accepted,
        },
        "control": record.control,
        "versions": record.versions,
    }


def _data(record: ModelRecord, iteration: Iteration | None) -> dict[str, Any]:
    """How much it learned from, and the digest of exactly what."""
    data: dict[str, Any] = {"training_cases": record.cases["training"], "test_cases": record.cases["test"]}
    if iteration is not None:
        data |= {
            "training_patients": len({case["patient"] for case in iteration.training_cases()}),
            "cases_sha256": digest_of(iteration.cases),
            "iteration_sha256": iteration.digest,
            "preparation_sha256": iteration.preparation,
            "ledger": iteration.ledger,
        }
    return data


def card_as_markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    origin = card["parent"] or ("a model from elsewhere" if card["imported_from_sha256"] else "scratch")
    lines = [
        f"# {card['dataset']}, model {card['model']}",
        "",
        f"Made {card['created']} from {origin}, in lineage {card['lineage']}. "
        f"{card['data']['training_cases']} cases for training, {card['data']['test_cases']} held out. "
        f"Digest {card['digest']}.",
        "",
        "For research: IterSeg is no medical device, and nobody but a reader decides what is right.",
        "",
        "## Structures",
        "",
        *(f"- {name}: {values}" for name, values in card["labels"].items()),
        "",
        "## Scores",
        "",
        *_scores(card),
        "",
        *_verdict(card["judged"]),
        "",
        "## Folds",
        "",
        "| fold | epochs | hours | validation Dice | checkpoint |",
        "| --- | --- | --- | --- | --- |",
        *(_fold(fold, row) for fold, row in card["folds"].items()),
        "",
        "## Made of",
        "",
        f"- plans, sha256 {card['plans_sha256'] or '–'}",
        *(f"- {name}, {value}" for name, value in card["data"].items() if name.endswith("sha256")),
        "",
        "## Made with",
        "",
        ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
        "",
    ]
    return "\n".join(lines)


def _scores(card: Mapping[str, Any]) -> list[str]:
    test = card["test"]
    if not test["dice"]:
        return ["It was not scored on a test set."]
    lines = [f"| on {test['cases']} test cases | " + " | ".join(SCORES.values()) + " |"]
    lines += ["| --- " * (len(SCORES) + 1) + "|"]
    for name in test["dice"]:
        values = [score_in_words(test[score].get(name)) for score in SCORES]
        with_distance, scored = test["hd95_cases"][name]
        values[0] += of_cases(scored, test["cases"])  # the others have nothing, drawn or predicted
        values[-1] += of_cases(with_distance, scored)
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return lines


def _verdict(judged: Mapping[str, Any]) -> list[str]:
    """How it was judged against the model that was in use then."""
    if judged["against"] is None:
        return [f"Judged: {judged['on']}."]
    fate = "not worse" if judged["accepted"] else "not put into use"
    lines = [f"Against {judged['against']} on the {judged['on']}: {fate}.", ""]
    return lines + [f"- {v['structure']}: {change_in_words(v)}" for v in judged["verdicts"]]


def _fold(fold: str, row: Mapping[str, Any]) -> str:
    hours = "–" if row["training_s"] is None else f"{row['training_s'] / 3600:.2f}"
    dice = (
        ", ".join(f"{name} {score_in_words(value)}" for name, value in row["validation_dice"].items()) or "–"
    )
    return f"| {fold} | {row['epochs'] or '–'} | {hours} | {dice} | `{row['checkpoint_sha256'][:16]}…` |"
