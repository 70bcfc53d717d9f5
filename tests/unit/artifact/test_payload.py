"""The safetensors file of one tensor, against the library that defines it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from tinylora_rl.artifact.files import decode, encode, num_bytes, values


@given(
    num_groups=st.integers(1, 40),
    u=st.integers(1, 40),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    seed=st.integers(0, 99),
)
def test_the_library_reads_what_is_encoded(num_groups, u, dtype, seed):
    v_GU = torch.randn(num_groups, u, generator=torch.Generator().manual_seed(seed))
    v_GU = v_GU.to(getattr(torch, dtype))
    numbers = v_GU.view(torch.uint8).numpy().tobytes()
    file = encode(numbers, dtype, v_GU.shape)
    tensors = load(file)
    assert list(tensors) == ["v"]
    assert tensors["v"].dtype == v_GU.dtype
    assert torch.equal(tensors["v"], v_GU)
    assert decode(file, dtype, v_GU.shape) == numbers
    assert values(numbers, dtype) == v_GU.to(torch.float32).flatten().tolist()


def test_decode_refuses_another_shape_of_the_same_size():
    file = encode(b"\0" * 48, "float32", (3, 4))
    with pytest.raises(ValueError, match="does not hold v of"):
        decode(file, "float32", (4, 3))
    with pytest.raises(ValueError, match="alone takes"):
        decode(file + b"\0", "float32", (3, 4))
    assert num_bytes("bfloat16", (1, 13)) == 26
