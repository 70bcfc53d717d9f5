"""Chooses the learning rate at which a size is reported. The rule:

1. A run counts with its last held-out accuracy.
2. A learning rate is a candidate unless a run of it did not finish: the finished ones would flatter
   it. Only where that leaves none do all rates count, with a note.
3. Candidates are compared on the same seeds: those given, or else those that all candidates have.
   Where they share none, those with the most of them are compared alone, with a note.
4. The candidate with the highest mean over these seeds wins; of equal means the smallest rate.
5. The result is the mean over all seeds of the winner. With seeds given it is over its other seeds:
   then nothing that decided the choice is reported.
6. A winner at either end of the rates tried is marked: the optimum may lie beyond.

Choosing by the same accuracies that are reported favours a size with more rates and more noise;
giving seeds is the remedy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

TIE = 1e-12  # the same counts of right answers, added up in another order, are a tie

Accuracies = Mapping[float, Mapping[str, float]]
"""{learning rate: {seed: last held-out accuracy}}"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The learning rate of one size.

    Attributes:
        means: {rate: mean over the selection's seeds that it has}, ascending.
        selected_on, reported_on: seeds, sorted.
        edge: the winner is the smallest (`low`) or largest (`high`) of at least two rates tried.
        notes: exceptions of rules 2, 3 and 5 that were needed.
    """

    learning_rate: float
    means: dict[float, float]
    selected_on: tuple[str, ...]
    reported_on: tuple[str, ...]
    edge: Literal["low", "high"] | None
    notes: tuple[str, ...]


def choose_rate(
    accuracies: Accuracies,
    seeds: Sequence[str] | None = None,
    unfinished: Collection[float] = (),
) -> Choice:
    """Chooses by the rule of the module.

    Args:
        accuracies: at least one run.
        seeds: to select on; None: those that all candidates have.
        unfinished: rates of which some run did not finish.

    Raises:
        ValueError: there is no run, or none with one of `seeds`.
    """
    ended = {rate: by_seed for rate, by_seed in sorted(accuracies.items()) if by_seed}
    if not ended:
        raise ValueError("no run with a held-out accuracy; validate at the end of each run")
    notes = []
    candidates = [rate for rate in ended if rate not in unfinished]
    if not candidates:
        notes.append("every learning rate has a run that did not end well")
        candidates = list(ended)
    if seeds is not None:
        wanted = set(seeds)
    else:
        wanted = set.intersection(*(set(ended[rate]) for rate in candidates))
        wanted = wanted or {seed for rate in candidates for seed in ended[rate]}
    seeds_of = {rate: sorted(wanted & set(ended[rate]), key=_in_order) for rate in ended}
    most = max(len(seeds_of[rate]) for rate in candidates)
    if most == 0:
        there = sorted({seed for rate in candidates for seed in ended[rate]}, key=_in_order)
        raise ValueError(
            f"seeds={','.join(seeds or ())}: no run has one of them; there are {','.join(there)}"
        )
    candidates = [rate for rate in candidates if len(seeds_of[rate]) == most]
    tried = sorted({*ended, *unfinished})
    if left_out := [rate for rate in tried if rate not in candidates]:
        rates = ", ".join(f"{rate:g}" for rate in left_out)
        notes.append(f"no candidate, for want of seeds that ended well: {rates}")
    means = {
        rate: sum(ended[rate][seed] for seed in seeds_of[rate]) / len(seeds_of[rate])
        for rate in ended
        if seeds_of[rate]
    }
    best = max(means[rate] for rate in candidates)
    winner = next(rate for rate in candidates if means[rate] >= best - TIE)
    reported = sorted(ended[winner], key=_in_order)
    if seeds is not None:
        reported = [seed for seed in reported if seed not in wanted]
        if not reported:
            notes.append("no other seed to report: chosen and reported on the same")
            reported = seeds_of[winner]
    return Choice(
        learning_rate=winner,
        means=means,
        selected_on=tuple(seeds_of[winner]),
        reported_on=tuple(reported),
        edge=_edge(winner, tried),
        notes=tuple(notes),
    )


def _edge(winner: float, tried: list[float]) -> Literal["low", "high"] | None:
    if len(tried) < 2 or winner not in (tried[0], tried[-1]):
        return None
    return "low" if winner == tried[0] else "high"


def _in_order(seed: str) -> tuple[int, str]:
    return (int(seed), seed) if seed.isdigit() else (1 << 62, seed)
