"""Defines the dashboard: the metrics of each panel, the panels of each section.

One definition, two renderings: `wandb_server` for Weights & Biases, the pages for a browser without
an account. The pages leave out panels whose metrics no run has.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Panel:
    """One chart over the steps.

    Attributes:
        caption: one sentence: the thing to look for.
        metrics: {name as logged: its label in the chart}; empty where `pattern` is given.
        unit: of the vertical axis; "" for shares and pure numbers.
        limits: of the vertical axis, where they mean something.
        log: a logarithmic vertical axis.
        pattern: regular expression, for metrics whose names depend on the run.
    """

    title: str
    caption: str
    metrics: dict[str, str]
    unit: str = ""
    limits: tuple[float, float] | None = None
    log: bool = False
    pattern: str = ""

    def found_in(self, names: Iterable[str]) -> dict[str, str]:
        """Returns {name: label} of the metrics among `names` that belong here, in panel order."""
        names = set(names)
        if self.metrics:
            return {name: label for name, label in self.metrics.items() if name in names}
        matches = {name: re.fullmatch(self.pattern, name) for name in sorted(names)}
        return {name: "".join(match.groups("")) for name, match in matches.items() if match}


SHARE = (0, 1)
SECTIONS: dict[str, tuple[Panel, ...]] = {
    "Reward": (
        Panel("Training reward", "Mean over the step's samples.",
              {"critic/score/mean": "reward"}, limits=SHARE),
        Panel("Held-out accuracy", "By the judge of the task. Step 0 is the untrained model.",
              {}, limits=SHARE, pattern=r"val-core/(.*)/acc/mean@\d+"),
        Panel("Loss", "Supervised runs only.",
              {"train/loss": "training", "val/loss": "held-out"}),
    ),
    "Response length": (
        Panel("Response length", "Longer answers are often what is learned first.",
              {"response_length/mean": "mean"}, "tokens"),
        Panel("Cut at the limit",
              "Share of responses. Far from 0, the limit and not the model ends them.",
              {"response_length/clip_ratio": "share"}, limits=SHARE),
    ),
    "Sampler and actor": (
        Panel("Difference of probabilities",
              "Mean over tokens. The paper shows 0.002 to 0.003 with bfloat16 weights.",
              {"training/rollout_probs_diff_mean": "mean"}),
        Panel("Correlation of probabilities", "1 where the sampler is the policy that is trained.",
              {"training/rollout_actor_probs_pearson_corr": "correlation"}),
        Panel("Canary", "Log-probabilities of a fixed text: near to the actor, far from the base.",
              {"sync/canary_actor_diff": "sampler to actor",
               "sync/canary_base_distance": "sampler to base",
               "sync/canary_policy_distance": "actor to base"}, "nats", log=True),
    ),
    "v": (
        Panel("|v|", "A straight line is Adam at full step; flat is a rate too small.",
              {"tinylora/v_norm": "|v|"}),
        Panel("The numbers themselves", "Each entry of v.", {}, pattern=r"tinylora/v/(\d+)"),
        Panel("Effective step", "Update and step in weight space, relative to the weights.",
              {"tinylora/relative_delta_norm": "|dW|/|W|",
               "tinylora/relative_step_norm": "of one step"}, log=True),
    ),
    "Gradient signal": (
        Panel("Signal to noise", "Of the groups' gradients. Below 0.1 the step is mostly noise.",
              {"signal/snr_mean": "mean", "signal/snr_min": "least",
               "signal/microbatch_snr": "micro-batches"}),
        Panel("Groups without spread",
              "Share whose samples all have one reward, and so no gradient.",
              {"group/zero_std_frac": "share"}, limits=SHARE),
        Panel("Gradient norm", "Before clipping.",
              {"actor/grad_norm": "GRPO", "train/grad_norm": "SFT"}, log=True),
    ),
    "Graders": (
        Panel("Strict and flexible", "A gap that closes is the format being learned.",
              {"reward/strict": "strict", "reward/flexible": "flexible"}, limits=SHARE),
        Panel("Without a verdict", "Shares of the responses.",
              {"reward/no_answer_frac": "no answer", "reward/timeout_frac": "timed out"},
              limits=SHARE),
        Panel("Grading time", "The slowest hundredth.",
              {"reward/grade_s/p99": "p99"}, "s", log=True),
    ),
    "Sync": (
        Panel("Survival", "Share of dW left after rounding to the sampler's dtype.",
              {"sync/survival": "share"}),
        Panel("Seconds", "From the trainer's weights to the sampler's acknowledgement.",
              {"sync/seconds": "sync"}, "s"),
        Panel("Bytes", "Sent in one sync.", {"sync/bytes": "sync"}, "bytes", log=True),
    ),
    "Time": (
        Panel("A step", "Where the seconds go.",
              {"timing_s/step": "step", "timing_s/gen": "sampling",
               "timing_s/old_log_prob": "log-probabilities", "timing_s/update_actor": "update",
               "timing_s/update_weights": "sync"}, "s"),
    ),
}  # fmt: skip
