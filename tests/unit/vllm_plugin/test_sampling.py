"""Seeds of samples are functions of what the sample is."""

from itertools import product

from tinylora_rl.vllm_plugin.sampling import sample_seed


def test_every_part_of_the_key_matters_and_nothing_else():
    keys = list(product((0, 1), (0, 1, 10), ("train", "test"), (0, 1, 11), (0, 1)))
    seeds = {sample_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert seeds == {sample_seed(*key) for key in keys}
    assert all(0 <= seed < 2**31 for seed in seeds)
