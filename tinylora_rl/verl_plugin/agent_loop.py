"""verl's single-turn rollout, with a seed for every sample and greedy rows among sampled ones.

vLLM draws from one generator per engine unless a request brings its own seed; what a sample becomes
then depends on which requests came before it. With a seed per (run, step, row, sample) a run can be
repeated and resumed. A row whose `extra_info.greedy` is true is decoded greedily, so that one
validation measures both.
"""

from __future__ import annotations

import hashlib
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop


class SeededSingleTurnAgentLoop(SingleTurnAgentLoop):
    """Selected by `rollout.agent.default_agent_loop: tinylora_single_turn`."""

    async def run(
        self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any
    ) -> AgentLoopOutput:
        row = kwargs.get("extra_info") or {}
        if row.get("greedy"):
            sampling_params = {**sampling_params, "temperature": 0, "top_p": 1.0, "top_k": -1}
        seed = sample_seed(
            self.rollout_config.seed,
            int(kwargs["global_steps"]),
            row.get("split", ""),
            int(kwargs["index"]),
            int(kwargs["session_id"]),
        )
        return await super().run({**sampling_params, "seed": seed}, priority=priority, **kwargs)


def sample_seed(run_seed: int, global_step: int, split: str, row: int, sample: int) -> int:
    """A 31-bit seed that is a function of its arguments alone."""
    key = f"{run_seed}\x1f{global_step}\x1f{split}\x1f{row}\x1f{sample}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1
