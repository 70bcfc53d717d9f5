"""The dashboard: which metrics stand in which panel, in which section.

One definition, two renderings: `workspace` for Weights & Biases, `page` for a browser without an
account. A panel whose metrics no run has is left out of the page.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart over the steps.

    Attributes:
        metrics: {name as logged: what the chart calls it}. One of the two is given:
        pattern: regular expression, for metrics whose names depend on the run.
        unit: of the vertical axis; "" for shares and pure numbers.
        says: one sentence: what to look for.
        limits: of the vertical axis where they mean something.
        log: a logarithmic vertical axis.
    """

    title: str
    says: str
    metrics: dict[str, str] = dataclasses.field(default_factory=dict)
    pattern: str = ""
    unit: str = ""
    limits: tuple[float, float] | None = None
    log: bool = False

    def found_in(self, names: Iterable[str]) -> dict[str, str]:
        """{name: label} of the metrics among `names` that belong here, in the panel's order."""
        names = set(names)
        if self.metrics:
            return {name: label for name, label in self.metrics.items() if name in names}
        expression = re.compile(self.pattern)
        matches = {name: expression.fullmatch(name) for name in sorted(names)}
        return {name: "".join(match.groups("")) for name, match in matches.items() if match}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Panels on one question."""

    title: str
    panels: tuple[Panel, ...]


SECTIONS = (
    Section(
        title="Reward",
        panels=(
            Panel(
                title="Training reward",
                says="Mean over the step's samples.",
                metrics={"critic/score/mean": "reward"},
                limits=(0, 1),
            ),
            Panel(
                title="Held-out accuracy",
                says="By the judge of the task. Step 0 is the untrained model.",
                pattern=r"val-core/(.*)/acc/mean@\d+",
                limits=(0, 1),
            ),
            Panel(
                title="Loss",
                says="Supervised runs only.",
                metrics={"train/loss": "training", "val/loss": "held-out"},
            ),
        ),
    ),
    Section(
        title="Response length",
        panels=(
            Panel(
                title="Response length",
                says="Longer answers are often what is learned first.",
                metrics={"response_length/mean": "mean"},
                unit="tokens",
            ),
            Panel(
                title="Cut at the limit",
                says="Share of responses. Far from 0, the limit and not the model ends them.",
                metrics={"response_length/clip_ratio": "share"},
                limits=(0, 1),
            ),
        ),
    ),
    Section(
        title="Sampler and actor",
        panels=(
            Panel(
                title="Difference of probabilities",
                says="Mean over tokens. The paper shows 0.002 to 0.003 with bfloat16 weights.",
                metrics={"training/rollout_probs_diff_mean": "mean"},
            ),
            Panel(
                title="Correlation of probabilities",
                says="1 where the sampler is the policy that is trained.",
                metrics={"training/rollout_actor_probs_pearson_corr": "correlation"},
            ),
            Panel(
                title="Canary",
                unit="nats",
                says="Log-probabilities of a fixed text: near to the actor, far from the base.",
                metrics={
                    "sync/canary_actor_diff": "sampler to actor",
                    "sync/canary_base_distance": "sampler to base",
                    "sync/canary_policy_distance": "actor to base",
                },
                log=True,
            ),
        ),
    ),
    Section(
        title="v",
        panels=(
            Panel(
                title="|v|",
                says="A straight line is Adam at full step; flat is a rate too small.",
                metrics={"tinylora/v_norm": "|v|"},
            ),
            Panel(
                title="The numbers themselves",
                says="Each entry of v.",
                pattern=r"tinylora/v/(\d+)",
            ),
            Panel(
                title="Effective step",
                says="Update and step in weight space, relative to the weights.",
                metrics={
                    "tinylora/relative_delta_norm": "|dW|/|W|",
                    "tinylora/relative_step_norm": "of one step",
                },
                log=True,
            ),
        ),
    ),
    Section(
        title="Gradient signal",
        panels=(
            Panel(
                title="Signal to noise",
                says="Of the groups' gradients. Below 0.1 the step is mostly noise.",
                metrics={
                    "signal/snr_mean": "mean",
                    "signal/snr_min": "least",
                    "signal/microbatch_snr": "micro-batches",
                },
            ),
            Panel(
                title="Groups without spread",
                says="Share whose samples all have one reward, and so no gradient.",
                metrics={"group/zero_std_frac": "share"},
                limits=(0, 1),
            ),
            Panel(
                title="Gradient norm",
                says="Before clipping.",
                metrics={"actor/grad_norm": "GRPO", "train/grad_norm": "SFT"},
                log=True,
            ),
        ),
    ),
    Section(
        title="Graders",
        panels=(
            Panel(
                title="Strict and flexible",
                says="A gap that closes is the format being learned.",
                metrics={"reward/strict": "strict", "reward/flexible": "flexible"},
                limits=(0, 1),
            ),
            Panel(
                title="Without a verdict",
                says="Shares of the responses.",
                metrics={"reward/no_answer_frac": "no answer", "reward/timeout_frac": "timed out"},
                limits=(0, 1),
            ),
            Panel(
                title="Grading time",
                says="The slowest hundredth.",
                metrics={"reward/grade_s/p99": "p99"},
                unit="s",
                log=True,
            ),
        ),
    ),
    Section(
        title="Sync",
        panels=(
            Panel(
                title="Survival",
                says="Share of dW left after rounding to the sampler's dtype.",
                metrics={"sync/survival": "share"},
            ),
            Panel(
                title="Seconds",
                says="From the trainer's weights to the sampler's acknowledgement.",
                metrics={"sync/seconds": "sync"},
                unit="s",
            ),
            Panel(
                title="Bytes",
                says="Sent in one sync.",
                metrics={"sync/bytes": "sync"},
                unit="bytes",
                log=True,
            ),
        ),
    ),
    Section(
        title="Time",
        panels=(
            Panel(
                title="A step",
                says="Where the seconds go.",
                metrics={
                    "timing_s/step": "step",
                    "timing_s/gen": "sampling",
                    "timing_s/old_log_prob": "log-probabilities",
                    "timing_s/update_actor": "update",
                    "timing_s/update_weights": "sync",
                },
                unit="s",
            ),
        ),
    ),
)
