"""The sync checksum: equal for equal streams in any order, different for everything that can go
wrong.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.verl_plugin.sync import checksum
from tinylora_rl.verl_plugin.sync.checksum import StreamChecksum


def of(tensors: dict[str, torch.Tensor]) -> str:
    stream = StreamChecksum()
    for name, tensor in tensors.items():
        stream.add(name, tensor)
    return stream.hexdigest()


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(7, 5, generator=generator),
        "b": torch.randn(5, 7, generator=generator).to(torch.bfloat16),
        "c": torch.arange(6, dtype=torch.int64),
    }


def test_order_and_layout_do_not_matter(tensors):
    shuffled = dict(reversed(tensors.items()))
    shuffled["a"] = tensors["a"].T.contiguous().T  # the same values, column-major
    assert of(shuffled) == of(tensors)


def test_counts_tensors_and_bytes(tensors):
    stream = StreamChecksum()
    for name, tensor in tensors.items():
        stream.add(name, tensor)
    assert stream.num_tensors == 3
    assert stream.num_bytes == 35 * 4 + 35 * 2 + 6 * 8


def test_whatever_goes_wrong_is_seen(tensors):
    a = tensors["a"]
    flipped = a.clone()
    flipped.view(torch.int32)[3, 2] ^= 1  # the last bit of one value
    swapped = a.clone()
    swapped[0], swapped[1] = a[1], a[0]
    wrong = [
        {name: tensor for name, tensor in tensors.items() if name != "b"},  # missing
        {**tensors, "a": flipped},
        {**tensors, "a": swapped},
        {**tensors, "a": a.reshape(5, 7)},
        {**tensors, "a": tensors["b"], "b": tensors["a"]},  # exchanged
        {**tensors, "c": tensors["c"].to(torch.int32)},
        {**tensors, "a": torch.zeros_like(a)},
    ]
    checksums = {of(case) for case in wrong} | {of(tensors)}
    assert len(checksums) == len(wrong) + 1
    doubled = StreamChecksum()
    for _ in range(2):
        for name, tensor in tensors.items():
            doubled.add(name, tensor)
    assert doubled.hexdigest() not in checksums


@given(size=st.integers(1, 100), chunk=st.integers(1, 40))
def test_chunks_do_not_matter(size, chunk):
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(size))
    whole = of({"x": tensor})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checksum, "_CHUNK", chunk)
        assert of({"x": tensor}) == whole


def test_a_sampled_checksum_still_finds_what_goes_wrong_by_the_tensor():
    generator = torch.Generator().manual_seed(3)
    size = 3 * 8 * checksum._CHUNK * 4  # fp16 words of 8 bytes hold 4: three strides
    weight, stale = (torch.randn(size, generator=generator).half() for _ in range(2))

    def sampled(tensors: dict[str, torch.Tensor]) -> str:
        stream = checksum.StreamChecksum(sampled=True)
        for name, tensor in tensors.items():
            stream.add(name, tensor)
        return stream.hexdigest()

    true = sampled({"a": weight, "b": stale})
    assert sampled({"b": stale, "a": weight}) == true
    assert sampled({"a": stale, "b": weight}) != true
    assert sampled({"a": weight}) != true
    assert sampled({"a": weight.roll(1), "b": stale}) != true
