"""A seed is kept to on the CPU, whatever else is in the batch."""

import pytest
import torch
from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

from tinylora_rl.vllm_plugin.cpu_patch import keep_to_seeds_in_mixed_batches

ROWS, WORDS = 6, 1000
TOP_P = torch.full((ROWS,), 0.9)


@pytest.fixture
def drawn(monkeypatch):
    """`drawn(seeds)`: a word for each row; rows that are not in `seeds` have none."""
    monkeypatch.setattr(TopKTopPSampler, "forward_cpu", TopKTopPSampler.forward_cpu)  # and back
    logits_BV = torch.randn(ROWS, WORDS, generator=torch.Generator().manual_seed(0))

    def draw(seeds: dict[int, int], top_p_B: torch.Tensor | None = None) -> list[int]:
        generators = {row: torch.Generator().manual_seed(seed) for row, seed in seeds.items()}
        sampler = TopKTopPSampler()
        words_B, _ = sampler.forward_cpu(logits_BV.clone(), generators, None, top_p_B)
        return words_B.tolist()

    return draw


@pytest.mark.parametrize("top_p_B", [None, TOP_P])
def test_a_seeded_row_does_not_depend_on_the_others(drawn, top_p_B):
    alone = drawn(dict(enumerate(range(ROWS))), top_p_B)
    keep_to_seeds_in_mixed_batches()
    keep_to_seeds_in_mixed_batches()  # twice is once
    assert drawn(dict(enumerate(range(ROWS))), top_p_B) == alone
    for _ in range(5):
        mixed = drawn({1: 1, 4: 4}, top_p_B)
        assert [mixed[1], mixed[4]] == [alone[1], alone[4]]


def test_rows_without_a_seed_are_drawn_anew(drawn):
    keep_to_seeds_in_mixed_batches()
    assert len({tuple(drawn({1: 1})[2:]) for _ in range(5)}) == 5
    assert len({tuple(drawn({})) for _ in range(5)}) == 5


def test_vllm_still_needs_the_patch(drawn):
    """When this fails, vLLM keeps to seeds by itself: remove the patch."""
    assert len({drawn({1: 1})[1] for _ in range(8)}) > 1
