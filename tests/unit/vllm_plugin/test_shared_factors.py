import torch

from tinylora_rl import artifact
from tinylora_rl.adapter import CheckpointWeights
from tinylora_rl.tasks.arithmetic import base_model_dir
from tinylora_rl.vllm_plugin.shared_factors import SharedFactors


def test_factors_are_those_of_the_adapter(adapters):
    shared = SharedFactors(base_model_dir())
    base = CheckpointWeights(base_model_dir())
    for directory in adapters.values():
        wanted = artifact.load_update(directory, base).lora_factors()
        factors = shared.read(directory)
        assert list(factors.names) == list(wanted)
        for name, (A_RI, B_OR) in wanted.items():
            A_here_RI, B_here_OR = factors.of(name)
            assert torch.equal(A_here_RI, A_RI)
            assert torch.equal(B_here_OR, B_OR)


def test_a_module_that_is_not_adapted_has_none(adapters):
    factors = SharedFactors(base_model_dir()).read(adapters["narrow"])
    assert factors.of("model.layers.0.self_attn.q_proj") is not None
    assert factors.of("model.layers.0.self_attn.k_proj") is None


def test_a_hundredth_adapter_costs_its_matrices_alone(adapters):
    shared = SharedFactors(base_model_dir())
    one = shared.read(adapters["one"])
    held = shared.num_bytes
    two = shared.read(adapters["two"])
    assert shared.num_bytes == held
    name = "model.layers.2.mlp.down_proj"
    assert one.of(name)[0].data_ptr() == two.of(name)[0].data_ptr()
    assert two.num_bytes == 21 * 2 * 2 * 4  # modules, r x r, float32
    assert not torch.equal(one.of(name)[1], two.of(name)[1])
