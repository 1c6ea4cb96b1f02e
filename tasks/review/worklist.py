"""Which image is worth a person's next ten minutes, and why.

No strategy reliably beats drawing at random among images in which something is seen (Lüth et al., nnActive,
arXiv 2511.19183), so a share of the list is always random; it also shows what the others leave out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.settings.output import Strategy

NEARLY_NOTHING = 1e-12


@dataclass(frozen=True)
class Candidate:
    """An unlabelled image that was predicted, or looked at in a triage.

    Attributes
    ----------
    doubt
        As :func:`tasks.nnunet.doubt.doubt_of` gives it.
    """

    case_id: str
    doubt: Mapping[str, Any]

    @property
    def disagreement(self) -> dict[str, float]:
        """Structure → 1 less the mean Dice between folds, of those that any fold sees."""
        return {name: 1 - dice for name, dice in self.doubt["fold_dice"].items() if dice is not None}


@dataclass(frozen=True)
class Ranked:
    """A place in the list: why, and on which slices, as a viewer numbers them, folds disagree most."""

    case_id: str
    score: float
    reason: str
    slices: Sequence[int]


def rank(candidates: Sequence[Candidate], strategy: Strategy, random_share: float, seed: int) -> list[Ranked]:
    """Put images in the order in which a person's time helps most.

    Parameters
    ----------
    strategy
        ``random``; ``foreground_random``, those first in which anything is seen; ``entropy`` of the mean
        of the folds; ``bald``, what of it the folds do not share; ``power_bald``, the same drawn with a
        chance in proportion (Kirsch et al., Stochastic Batch Acquisition, 2021), so that a list is not
        all of one kind; ``fold_disagreement``, pairwise Dice; ``class_stratified``, structures in turn,
        those first that are seen least often, each with a chance in proportion to its own disagreement
        (after ClaSP PE, arXiv 2601.13677).
    random_share
        Of places that are drawn at random, whatever the strategy.
    seed
        The same gives the same list.
    """
    draw = np.random.default_rng(seed)
    ordered = sorted(candidates, key=lambda candidate: candidate.case_id)
    by_strategy = _STRATEGIES[strategy](ordered, draw)
    at_random = [ordered[i] for i in draw.permutation(len(ordered))]
    return _mixed(by_strategy, at_random, random_share, draw.random())


def _mixed(by_strategy: list[Ranked], at_random: list[Candidate], share: float, begin: float) -> list[Ranked]:
    """Of every 1 / share places one is drawn at random from what is left.

    Which of them it is, ``begin`` (0 to 1) says: a list is ranked anew after each model, and who only gets to
    its first places would never see another one.
    """
    left = {ranked.case_id: ranked for ranked in by_strategy}
    found: list[Ranked] = []
    for position in range(len(by_strategy)):
        if math.floor((position + 1) * share + begin) > math.floor(position * share + begin):
            case_id = next(c.case_id for c in at_random if c.case_id in left)
            drawn = left.pop(case_id)
            reason = f"drawn at random, as {share:.0%} of the list are"
            found.append(Ranked(case_id, drawn.score, reason, drawn.slices))
        else:
            found.append(left.pop(next(r.case_id for r in by_strategy if r.case_id in left)))
    return found


def _ranked(candidate: Candidate, score: float, reason: str) -> Ranked:
    # Older records do not know how a viewer numbers them.
    slices = candidate.doubt.get("shown_as", [int(number) + 1 for number, _ in candidate.doubt["slices"]])
    return Ranked(candidate.case_id, float(score), reason, slices)


def _random(candidates: Sequence[Candidate], draw: np.random.Generator) -> list[Ranked]:
    return [_ranked(candidates[i], 0.0, "drawn at random") for i in draw.permutation(len(candidates))]


def _foreground_random(candidates: Sequence[Candidate], draw: np.random.Generator) -> list[Ranked]:
    shuffled = [candidates[i] for i in draw.permutation(len(candidates))]
    seen = [c for c in shuffled if c.doubt["foreground"] > 0]
    empty = [c for c in shuffled if c.doubt["foreground"] == 0]
    return [
        *(_ranked(c, 1.0, "drawn at random of those in which something is seen") for c in seen),
        *(_ranked(c, 0.0, "nothing is seen in it") for c in empty),
    ]


def _by(
    figure: Callable[[Candidate], float], words: Callable[[Candidate], str]
) -> Callable[[Sequence[Candidate], np.random.Generator], list[Ranked]]:
    """The largest first."""

    def strategy(candidates: Sequence[Candidate], _: np.random.Generator) -> list[Ranked]:
        ordered = sorted(candidates, key=figure, reverse=True)
        return [_ranked(candidate, figure(candidate), words(candidate)) for candidate in ordered]

    return strategy


def _entropy(candidate: Candidate) -> float:
    return float(candidate.doubt["entropy"])


def _information(candidate: Candidate) -> float:
    return float(candidate.doubt["mutual_information"])


def _information_words(candidate: Candidate) -> str:
    return f"folds are unsure in different ways: {_information(candidate):.3f} nats"


def _mean_disagreement(candidate: Candidate) -> float:
    """0 where no fold sees anything: then they agree. A model of one fold has its own doubt alone."""
    values = list(candidate.disagreement.values())
    if not values and candidate.doubt["foreground"]:
        return _entropy(candidate)
    return float(np.mean(values)) if values else 0.0


def _disagreement_words(candidate: Candidate) -> str:
    if not candidate.disagreement and candidate.doubt["foreground"]:
        return f"one fold, and none to compare it with: its entropy is {_entropy(candidate):.3f} nats"
    if not candidate.disagreement:
        return "no fold sees anything"
    name, worst = max(candidate.disagreement.items(), key=lambda item: item[1])
    if worst <= 0:
        return "folds agree"
    return f"folds agree to a Dice of {1 - _mean_disagreement(candidate):.2f}, on {name} of {1 - worst:.2f}"


def _power_bald(candidates: Sequence[Candidate], draw: np.random.Generator) -> list[Ranked]:
    noisy = _power([_information(c) for c in candidates], draw)
    ordered = [candidates[i] for i in np.argsort(-noisy, kind="stable")]
    return [_ranked(c, _information(c), f"drawn by it: {_information_words(c)}") for c in ordered]


def _power(values: Sequence[float], draw: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """To sort by these draws without replacement, each with a chance in proportion to its value."""
    logs = np.log(np.maximum(np.asarray(values, dtype=float), NEARLY_NOTHING))
    return np.asarray(logs + draw.gumbel(size=len(values)))


def _class_stratified(candidates: Sequence[Candidate], draw: np.random.Generator) -> list[Ranked]:
    structures = sorted({name for c in candidates for name in c.doubt["fold_dice"]})
    seen = {name: sum(name in c.disagreement for c in candidates) for name in structures}
    queues = {}
    for name in sorted(structures, key=lambda s: seen[s]):
        noisy = _power([c.disagreement.get(name, 0.0) for c in candidates], draw)
        queues[name] = [candidates[i] for i in np.argsort(-noisy, kind="stable")]
    found: dict[str, Ranked] = {}
    while len(found) < len(candidates):
        for name, queue in queues.items() or {"": list(candidates)}.items():
            following = next((c for c in queue if c.case_id not in found), None)
            if following is not None:
                value = following.disagreement.get(name)
                what = (
                    _disagreement_words(following) if value is None else f"Dice between folds {1 - value:.2f}"
                )
                words = f"for {name}, seen in {seen.get(name, 0)} images: {what}"
                found[following.case_id] = _ranked(following, value or 0.0, words)
    return list(found.values())


_STRATEGIES: Mapping[Strategy, Callable[[Sequence[Candidate], np.random.Generator], list[Ranked]]] = {
    "random": _random,
    "foreground_random": _foreground_random,
    "entropy": _by(_entropy, lambda c: f"the ensemble is unsure of what it sees: {_entropy(c):.3f} nats"),
    "bald": _by(_information, _information_words),
    "power_bald": _power_bald,
    "fold_disagreement": _by(_mean_disagreement, _disagreement_words),
    "class_stratified": _class_stratified,
}
