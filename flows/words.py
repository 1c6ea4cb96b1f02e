"""What a flow did, as a person would say it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flows.words_at_the_start import init_in_words
from tasks.dicom.reasons import NOTHING_DRAWN, WHAT_TO_DO, Reason
from tasks.review.fate import score_in_words, why_not

SHOWN_CASES = 10
SHOWN_ON_THE_LIST = 20
CAME_BACK = {
    "edited": "predictions that came back, edited",
    "unedited": "predictions that came back, unedited",
    "new": "drawn without our prediction",
    "unsettled": "could not be compared with our predictions yet",
}
"""Kind of :class:`tasks.ledger.refinements.Refinement` → how it is said."""
ENOUGH_PATIENTS = 10
"""With fewer a percentile bootstrap holds its confidence in less than 92 % of draws."""


def in_words(report: dict[str, Any]) -> str:
    """The report of a command for a terminal."""
    if report["stage"] == "init":
        return init_in_words(report)
    if report["stage"] == "iterate" and not report["stages"]:
        stays = f"model {report['model'] or 'none'} stays in use"
        return f"run: {report['state']}; {stays}\nreport: {report['report']}"
    if report["stage"] == "iterate":
        return "\n\n".join(in_words(stage) for stage in report["stages"])
    lines = [*_HEADLINES[report["stage"]](report), *of_cases(report)]
    if report.get("report"):
        lines.append(f"report: {report['report']}")
    return "\n".join(lines)


def _ingest(report: dict[str, Any]) -> list[str]:
    files = report["files"]
    counts = ", ".join(f"{count} {state}" for state, count in files.items() if count)
    lines = [f"ingest: {sum(files.values())} files{': ' + counts if counts else ''}"]
    lines += [f"  {reason}: {count}" for reason, count in report["reasons"].items()]
    retrieved = report["retrieved"] or {"series": {}, "refused": {}}
    lines += [f"  server, series {fate}: {count}" for fate, count in retrieved["series"].items()]
    lines += [
        f"  server, instances refused, {reason}: {count}" for reason, count in retrieved["refused"].items()
    ]
    lines += [
        f"  held {series}: the transfer was cut off after {count} instances; send it again"
        for series, count in report["held"].items()
    ]
    lines += [f"  {CAME_BACK[kind]}: {n}" for kind, n in report["refinements"].items()]
    lines += [f"  {sentence}" for sentence in report["passed_over"]]
    made = ", ".join(report["snapshots"])
    lines.append(f"  snapshot {made}" if made else "  nothing new")
    # Paths may be made of names: they stand in the account alone.
    aside = files.get("rejected") and report["manifests"]
    return [*lines, *(f"  which files these are stands in {file}" for file in report["manifests"] if aside)]


def _prepare(report: dict[str, Any]) -> list[str]:
    if "converted" in report:
        lines = [f"prepare: converted into {report['converted']}"]
    else:
        lines = [f"prepare: iteration {report['iteration']}{' (nothing new)' if report['reused'] else ''}"]
    if empty := [row["case_id"] for row in report["cases"] if row["detail"] == NOTHING_DRAWN]:
        lines.append(f"  {len(empty)} cases, {', '.join(empty[:SHOWN_CASES])}: {NOTHING_DRAWN}")
        lines.append("  is that so? an ROI that no pattern matches looks the same")
    return lines


def _plan(report: dict[str, Any]) -> list[str]:
    if report["opened"] is not None:
        return [
            f"plan: lineage {report['opened']} begins with {', '.join(report['structures'])}",
            "  the next run plans anew and trains from scratch; the model in use stays till one is no worse",
        ]
    lines = [f"plan: lineage {report['lineage']} against its {report['cases']} cases of today"]
    for row in report["rows"]:
        change = "" if row["change"] is None else f" ({row['change']:.0%})"
        mark = "! " if row["matters"] else "  "
        lines.append(f"  {mark}{row['what']}: {row['frozen']} → {row['today']}{change}")
    if report["worth_it"]:
        return [*lines, "  new plans are worth a training from scratch: `iterseg plan DATASET --new-lineage`"]
    return [*lines, "  the plans still fit"]


def _train(report: dict[str, Any]) -> list[str]:
    if report.get("model") is None:
        return [f"train: {report['state']}"]
    parent = report["parent"] or "scratch"
    lines = [f"train: model {report['model']} from {parent} ({report['state']})", *_race(report["control"])]
    for structure, value in report["test_dice"].items():
        lines.append(f"  test Dice {structure}: {score_in_words(value)}")
    for fold, scores in report["validation_dice"].items():
        values = ", ".join(f"{name} {score_in_words(value)}" for name, value in scores.items())
        lines.append(f"  fold {fold}: {values}")
    lines += [
        f"  look at the label of {s['case_id']} again: {s['structure']} agrees with its out-of-fold "
        f"prediction to a Dice of {s['dice']:.3f}, the others to {s['median']:.3f}"
        for s in report["suspects"][:SHOWN_CASES]
    ]
    compared = [v["patients"] for v in report["verdicts"] if v["patients"]]
    if compared and min(compared) < ENOUGH_PATIENTS:
        lines.append(
            f"  judged on {min(compared)} patients: with fewer than {ENOUGH_PATIENTS} the bound is "
            "optimistic (docs/science.md, Promotion)"
        )
    if report["accepted"]:
        used = report["in_use"]
        place = f"in use: {report['latest']}" if used == report["model"] else f"in use is {used}"
        return [*lines, f"  {place}"]
    stays = f"{report['in_use']} stays; `iterseg rollback` puts this one into use all the same"
    return [*lines, f"  NOT put into use: {why_not(report)}", f"  {stays}"]


def _race(control: dict[str, Any] | None) -> list[str]:
    """Who won where a training from scratch raced the warm start."""
    if control is None:
        return []
    sides = [
        f"{name} " + ", ".join(f"{structure} {score_in_words(value)}" for structure, value in dice.items())
        for name, dice in control["dice"].items()
    ]
    return [f"  from scratch against warm start on the {control['basis']}: {' / '.join(sides)}",
            f"  the {control['winner']} won"]  # fmt: skip


def _rollback(report: dict[str, Any]) -> list[str]:
    return [f"rollback: model {report['model']} is in use instead of {report['instead_of'] or 'none'}"]


def _export(report: dict[str, Any]) -> list[str]:
    return [
        f"export: model {report['model']} in {report['file']}",
        "  nnUNetv2_install_pretrained_model_from_zip installs it; predict with -chk checkpoint_final.pth",
    ]


def _import(report: dict[str, Any]) -> list[str]:
    known = "" if report["new"] else " (imported before)"
    use = "in use: `iterseg predict` predicts with it" if report["in_use"] else "the next run starts from it"
    return [
        f"import: model {report['model']}, {', '.join(report['structures'])}{known}",
        f"  ancestor of lineage {report['lineage']}; {use}",
    ]


def _models(report: dict[str, Any]) -> list[str]:
    lines = [f"{report['dataset']}: {len(report['models'])} models"]
    for model in report["models"]:
        scores = ", ".join(f"{name} {score_in_words(value)}" for name, value in model["test_dice"].items())
        origin = model["parent"] or ("elsewhere" if model["imported"] else "scratch")
        parts = [f"lineage {model['lineage']}, from {origin}", f"{model['cases']['training']} cases"]
        parts += [f"test Dice {scores}"] if scores else []
        parts += [f"the {model['control']['winner']} won its race"] if model["control"] else []
        lines.append(f"  {model['model']} {', '.join(parts)} ({model['fate']})")
    lines += [
        f"  {line['opened']} lineage {line['number']} begun: {line['why']}" for line in report["lineages"]
    ]
    lines += [f"  {entry['at']} {entry['model']} put into use: {entry['why']}" for entry in report["history"]]
    return lines


def _predict(report: dict[str, Any]) -> list[str]:
    if report["triage"]:
        return [f"predict: model {report['model']} has looked; the worklist is in {report['worklist']}"]
    lines = [f"predict: model {report['model']}, DICOM objects in {report['predictions']}"]
    lines += [f"  stale: {count} predictions by model {name}" for name, count in report["stale"].items()]
    return [*lines, *_sent(report)]


def _send(report: dict[str, Any]) -> list[str]:
    return [f"send: predictions of model {report['model']}", *_sent(report)]


def _accept(report: dict[str, Any]) -> list[str]:
    place = f", in snapshot {report['snapshot']}" if report["snapshot"] else ""
    return [f"accept: {len(report['cases'])} predictions of model {report['model']} are labels now{place}"]


def _sent(report: dict[str, Any]) -> list[str]:
    words = {
        "known": "were there",
        "locked": "are locked: somebody is at them",
        "outdated": "have grown since they were predicted: `iterseg predict` does so again",
    }
    return [
        f"  {name}: {counts['sent']} cases sent"
        + "".join(f", {n} {words.get(fate, fate)}" for fate, n in counts.items() if n and fate != "sent")
        for name, counts in report["sent"].items()
    ]


def _withdraw(report: dict[str, Any]) -> list[str]:
    done = "withdrawn" if report["new"] else "already withdrawn"
    own = report["cases"]
    of = f"{len(own)} cases {done}: {', '.join(own)}" if own else f"the patient is {done}; no image was here"
    lines = [f"withdraw: {of}"]
    if report["deleted"] is not None:
        lines += [f"  deleted from {place}: {count} files" for place, count in report["deleted"].items()]
    if report["models"]:
        in_use = ", the one in use among them" if report["in_use"] else ""
        lines.append(
            f"  models {', '.join(report['models'])} have learned from them{in_use}; their weights stay as "
            "they are, and so does what later models inherit from them"
        )
    if report["also_in"]:
        lines.append(f"  they are in {', '.join(report['also_in'])} too, and not withdrawn there")
    for dataset, cases in report["copies"].items():
        lines += [
            f"  case {case} of {dataset} is the same scan under another name; withdraw it too"
            for case in cases
        ]
    return lines


def _status(report: dict[str, Any]) -> list[str]:
    lines = [f"{report['dataset']}: {len(report['snapshots'])} snapshots"]
    if report["not_ingested"]:
        lines.append(f"  not ingested yet: {', '.join(report['not_ingested'])}")
    if report["working"]:
        lines.append(f"  a run is going on: {report['working']}")
    parent = f", from {report['parent']}" if report["parent"] else ""
    lines.append(f"  model in use: {report['model'] or 'none'}{parent}")
    if report["test_dice"]:
        scores = ", ".join(f"{name} {score_in_words(value)}" for name, value in report["test_dice"].items())
        lines.append(f"  its test Dice: {scores}")
    since = "since it was made" if report["model"] else "so far"
    if report["account"]:
        lines.append(f"  {since}: " + ", ".join(f"{n} {what}" for what, n in report["account"].items()))
    lines.append(f"  the next run: {report['next']}")
    if report["verified"] is not None:
        lines += [f"  CHANGED: {finding}" for finding in report["verified"]["findings"]]
        counts = report["verified"]["checked"]
        lines.append("  verified: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    return lines


def _worklist(report: dict[str, Any]) -> list[str]:
    rows = report["worklist"]
    lines = [f"{report['dataset']}: {len(rows)} images wait"]
    for row in rows[:SHOWN_ON_THE_LIST]:
        said = [row["reason"], *([f"slices {', '.join(map(str, row['slices']))}"] if row["slices"] else [])]
        said += [word for word in ("locked", "flagged", "skipped") if row[word]]
        said += [f"for {row['assigned']}"] if row["assigned"] else []
        lines.append(f"  {row['place']:>3}  {row['case_id']}  {'; '.join(said)}")
    if len(rows) > SHOWN_ON_THE_LIST:
        lines.append(f"  … all of them: iterseg worklist {report['dataset']} --json")
    return lines


def _simulate(report: dict[str, Any]) -> list[str]:
    lines = ["simulate: test Dice after the last round, and what corrections had cost"]
    for row in report["rows"]:
        cost = f"{row['added path length, mm']} mm of outline, {row['edited slices']} slices"
        lines.append(f"  {row['arm']}, {row['seeds']} seeds: {row['test Dice']}; {cost}")
    return lines


_HEADLINES = {
    "ingest": _ingest,
    "receive": lambda _: ["receive: stopped"],
    "withdraw": _withdraw,
    "prepare": _prepare,
    "plan": _plan,
    "train": _train,
    "predict": _predict,
    "send": _send,
    "worklist": _worklist,
    "accept": _accept,
    "rollback": _rollback,
    "models": _models,
    "simulate": _simulate,
    "export": _export,
    "import": _import,
    "status": _status,
}


def of_cases(report: dict[str, Any]) -> list[str]:
    """How many cases ended how, and what is wrong with those that were set aside."""
    if report["stage"] == "train" or not report.get("totals"):
        return []
    rows = report["cases"]
    # What is labelled may still turn out to be unusable: that is seen when it is converted.
    labelled = report["stage"] in ("ingest", "status")
    words = {"done": "labelled"} if labelled else {}
    counts = ", ".join(f"{n} {words.get(state, state)}" for state, n in report["totals"].items() if n)
    lines = [f"  cases: {counts or 'none'}"]
    ignored = Counter(row["reason"] for row in rows if row["state"] == "ignored")
    lines += [f"  ignored, {reason}: {count}" for reason, count in ignored.items()]
    rejected = [row for row in rows if row["state"] == "rejected"]
    for row in rejected[:SHOWN_CASES]:
        lines.append(
            ": ".join([f"  rejected {row['case_id']}", *filter(None, [row["reason"], row["detail"]])])
        )
    if len(rejected) > SHOWN_CASES:
        lines.append(f"  and {len(rejected) - SHOWN_CASES} more; --json lists them all")
    reasons = dict.fromkeys(str(row["reason"]) for row in rejected)
    lines += [f"  {reason}: {WHAT_TO_DO[Reason(reason)]}" for reason in reasons if reason in set(Reason)]
    return lines
