"""Extends verl's single-turn rollout: a seed for every sample, greedy rows among sampled ones.

vLLM draws from one generator per engine unless a request brings its own seed; a sample then depends
on the requests before it. With a seed per (run, step, row, sample) a run can be repeated and
resumed. A row whose `extra_info.greedy` is true is decoded greedily.
"""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from tinylora_rl.vllm_plugin.sampling import GREEDY, sample_seed


class SeededSingleTurnAgentLoop(SingleTurnAgentLoop):
    """Selected by `rollout.agent.default_agent_loop: tinylora_single_turn`."""

    # Upstream calls it once per sample, in an agent-loop worker, with the row's fields as kwargs.
    # We add the seed to the request, and greedy decoding where the row asks for it.
    async def run(
        self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any
    ) -> AgentLoopOutput:
        row = kwargs.get("extra_info") or {}
        if row.get("greedy"):
            sampling_params = {**sampling_params, **GREEDY}
        seed = sample_seed(
            self.rollout_config.seed,
            int(kwargs["global_steps"]),
            row.get("split", ""),
            int(kwargs["index"]),
            int(kwargs["session_id"]),
        )
        output = await super().run({**sampling_params, "seed": seed}, priority=priority, **kwargs)
        # verl passes these fields to the reward function, among the row's extra_info
        output.extra_fields["sample_seed"] = seed
        return output
