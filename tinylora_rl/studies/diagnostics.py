"""Diagnoses a run from its metrics. Each rule is a threshold with its reason.

"Late" is the last third of the steps, "early" the first third: shorter windows are noise at the
25 to 350 steps of a run, longer ones mix the start of the training with its result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

from tinylora_rl.studies.paper import ROLLOUT_PROBS_DIFF
from tinylora_rl.studies.records import RunRecord, setting

WINDOW = 3  # thirds of a run
MIN_STEPS = 6  # below, windows of one or two steps say nothing

HALF_SPACING = 2.0**-9
"""Half the distance between neighbours in bfloat16, relative, where it is smallest. An update with
|dW|/|W| below it is smaller than what storing the weights in bfloat16 did to them anyway."""

SURVIVAL_LOST = 0.2
"""Share of dW left after rounding: a tenth at |v| = 1e-3, four tenths at 3e-3, in a
3584 x 3584 matrix. Below a fifth little of what the actor learns reaches the sampler."""

FLAT_ERRORS = 3.0
"""Standard errors between early and late reward below which a run counts as flat."""

FLAT_FLOOR = 0.02
"""And a difference below two points is flat whatever its error: held-out sets resolve no less."""

ZERO_SPREAD = 0.8
"""Share of groups whose samples all have one reward. Above it fewer than one prompt in five gives
any gradient: most of the rollout is wasted."""

SNR_NOISE = 0.1
"""Mean over parameters of |mean| / standard deviation of the groups' gradients. At 0.1 it takes
100 groups to tell a component from 0: more than the paper's 16 prompts a batch of 64."""

PROBS_DIFF_FAR = 3 * ROLLOUT_PROBS_DIFF[1]
"""Three times the largest mean difference of probabilities that the paper shows (figure 5)."""

CORRELATION_FAR = 0.98
"""Of the sampler's and the actor's probabilities; healthy runs are above 0.999."""

COLLAPSED = 0.5
"""Late reward as a share of the best third: a run that lost half of what it had."""

NO_ANSWER = 0.5
TIMEOUTS = 0.01  # one in a hundred rewards is then the grader's, not the model's
TRUNCATED = 0.2  # shares of the responses
FORMAT_GAP = 0.1
"""Points between strict and flexible extraction: with more, what is learned is largely format."""

Severity = Literal["error", "warning", "good"]
SEVERITIES = ("error", "warning", "good")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One finding on one aspect, and its fix.

    Attributes:
        severity: `error`: the run cannot learn; `warning`: look at it; `good`.
        rule: name of the rule, for tests and links.
    """

    rule: str
    severity: Severity
    message: str
    fix: str = ""


NOTHING_CONSPICUOUS = Diagnosis(rule="quiet", severity="good", message="Nothing conspicuous.")


def diagnose(run: RunRecord) -> list[Diagnosis]:
    """Diagnoses `run`, most severe first; a single `good` one if no rule fires.

    Rules whose metrics a run does not have are skipped.
    """
    if run.num_steps < MIN_STEPS:
        message = f"{run.num_steps} steps: too few to read trends from."
        return [Diagnosis(rule="short", severity="warning", message=message)]
    found = [diagnosis for rule in RULES for diagnosis in rule(run)]
    if not any(diagnosis.severity != "good" for diagnosis in found):
        found.append(NOTHING_CONSPICUOUS)
    return sorted(found, key=lambda diagnosis: SEVERITIES.index(diagnosis.severity))


def _rate_too_small(run: RunRecord) -> Iterator[Diagnosis]:
    """Fires where the outcome is flat, and dW is lost in rounding or below the grid's spacing."""
    flat = _is_flat(run)
    delta = _late(run, "tinylora/relative_delta_norm")
    survival = _late(run, "sync/survival")
    rate = run.learning_rate
    if not flat or rate is None or delta is None:
        return
    lost = survival is not None and survival < SURVIVAL_LOST
    if not lost and delta >= HALF_SPACING:
        return
    reason = (
        f"{survival:.0%} of it survived rounding"
        if lost
        else f"below bfloat16's own half spacing of {HALF_SPACING:.1e}"
    )
    yield Diagnosis(
        rule="rate_too_small",
        severity="error",
        message=(
            f"The learning rate is too small to move v: after {run.num_steps} steps at {rate:g} "
            f"|dW|/|W| is {delta:.1e}, {reason}, and the reward is flat. Adam moves each number by "
            f"at most about the rate a step, {rate * run.num_steps:.1e} in all."
        ),
        fix="Raise the learning rate tenfold, or more, until |dW|/|W| passes 1e-2.",
    )


def _collapse(run: RunRecord) -> Iterator[Diagnosis]:
    rewards = [value for _, value in run.series("critic/score/mean")]
    if len(rewards) < MIN_STEPS:
        return
    best = max(_mean(part) for part in _thirds(rewards))
    late = _mean(_thirds(rewards)[-1])
    if best > FLAT_FLOOR and late < COLLAPSED * best:
        yield Diagnosis(
            rule="collapse",
            severity="error",
            message=f"The reward fell from {best:.2f} to {late:.2f} within the run.",
            fix="Lower the learning rate.",
        )


def _no_spread(run: RunRecord) -> Iterator[Diagnosis]:
    share, reward = _late(run, "group/zero_std_frac"), _late(run, "critic/score/mean")
    if share is None or share <= ZERO_SPREAD:
        return
    solved = reward is not None and reward > 0.5
    yield Diagnosis(
        rule="no_spread",
        severity="good" if solved and reward is not None and reward > 0.9 else "warning",
        message=(
            f"{share:.0%} of the groups have no spread: their samples all got one reward and give "
            "no gradient. " + ("The task is nearly solved." if solved else "The task is too hard.")
        ),
        fix="" if solved else "Take easier prompts, or more samples of each.",
    )


def _noise(run: RunRecord) -> Iterator[Diagnosis]:
    ratio = _late(run, "signal/snr_mean")
    if ratio is not None and ratio < SNR_NOISE:
        yield Diagnosis(
            rule="noise",
            severity="warning",
            message=f"The gradient is nearly all noise: signal to noise {ratio:.3f}.",
            fix="Take more prompts a step, or a lower learning rate over more steps.",
        )


def _sampler_far(run: RunRecord) -> Iterator[Diagnosis]:
    difference = _late(run, "training/rollout_probs_diff_mean")
    correlation = _late(run, "training/rollout_actor_probs_pearson_corr")
    far = difference is not None and difference > PROBS_DIFF_FAR
    apart = correlation is not None and correlation < CORRELATION_FAR
    if far or apart:
        facts = [f"mean difference {difference:.4f}"] if difference is not None else []
        facts += [f"correlation {correlation:.4f}"] if correlation is not None else []
        yield Diagnosis(
            rule="sampler_far",
            severity="warning",
            message=(
                f"The sampler's probabilities are far from the actor's ({', '.join(facts)}; the "
                f"paper shows differences up to {ROLLOUT_PROBS_DIFF[1]})."
            ),
            fix="Sync in a finer dtype, or with stochastic rounding; keep the importance weights.",
        )


def _drowned(run: RunRecord) -> Iterator[Diagnosis]:
    """Fires where sampler and actor differ by more than training has moved the actor."""
    to_actor = _late(run, "sync/canary_actor_diff")
    moved = _late(run, "sync/canary_policy_distance")
    if to_actor is not None and moved is not None and to_actor > moved > 0:
        yield Diagnosis(
            rule="drowned",
            severity="warning",
            message=(
                f"On the canary the sampler is {to_actor:.1e} nats from the actor, which itself "
                f"has come {moved:.1e} from the base model: rounding drowns what was learned."
            ),
            fix="Sync in a finer dtype or as factors, or raise the learning rate.",
        )


def _graders(run: RunRecord) -> Iterator[Diagnosis]:
    for metric, limit, rule, finding in (
        ("reward/timeout_frac", TIMEOUTS, "timeouts", "of the responses timed out in grading."),
        ("reward/no_answer_frac", NO_ANSWER, "no_answer", "of the responses hold no answer."),
        ("response_length/clip_ratio", TRUNCATED, "truncated", "of the responses were cut short."),
    ):
        share = _late(run, metric)
        if share is not None and share > limit:
            yield Diagnosis(rule=rule, severity="warning", message=f"{share:.0%} {finding}")
    gap = _late(run, "reward/strict_minus_flexible")
    if gap is not None and gap < -FORMAT_GAP:
        yield Diagnosis(
            rule="format",
            severity="warning",
            message=f"Strict extraction finds {-100 * gap:.0f} points less than flexible: format.",
        )


RULES: tuple[Callable[[RunRecord], Iterator[Diagnosis]], ...] = (
    _rate_too_small,
    _drowned,
    _collapse,
    _no_spread,
    _noise,
    _sampler_far,
    _graders,
)


def _is_flat(run: RunRecord) -> bool:
    """Returns True where early and late reward (in SFT: loss) differ by no more than noise."""
    rewards = [value for _, value in run.series("critic/score/mean")]
    if not rewards:
        losses = [value for _, value in run.series("train/loss")]
        if len(losses) < MIN_STEPS:
            return False
        early, late = _mean(_thirds(losses)[0]), _mean(_thirds(losses)[-1])
        return abs(late - early) < FLAT_FLOOR * abs(early)
    first, last = _thirds(rewards)[0], _thirds(rewards)[-1]
    early, late = _mean(first), _mean(last)
    samples = len(first) * _samples_per_step(run)
    pooled = (early + late) / 2
    error = (2 * max(pooled * (1 - pooled), 0.0) / samples) ** 0.5
    return abs(late - early) < max(FLAT_ERRORS * error, FLAT_FLOOR)


def _samples_per_step(run: RunRecord) -> int:
    prompts = setting(run.config, "task.prompts_per_step") or 1
    # One prompt's samples are not independent: prompts differ in difficulty, so these count as few.
    return max(int(prompts), 1)


def _late(run: RunRecord, metric: str) -> float | None:
    """Returns the mean over the last third of the logged values; None without any."""
    values = [value for _, value in run.series(metric)]
    return _mean(_thirds(values)[-1]) if values else None


def _thirds(values: list[float]) -> list[list[float]]:
    width = max(1, len(values) // WINDOW)
    return [values[:width], values[width:-width] or values[:width], values[-width:]]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
