"""The examples of the package's docstring run, one after the other, as a reader would type them."""

import re
import textwrap

import torch

import tinylora_rl.adapter


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    blocks = re.findall(r"(?:^ {4}.*\n|^\n)+", tinylora_rl.adapter.__doc__, flags=re.MULTILINE)
    examples = [textwrap.dedent(block) for block in blocks if block.strip()]
    assert len(examples) == 2
    names: dict = {}
    for example in examples:
        exec(compile(example, "docstring", "exec"), names)
    adapter, base, merged = names["adapter"], names["base"], names["merged"]
    assert adapter.v.numel() == 13
    assert float(adapter.v.detach().abs().min()) > 1e-3
    name = adapter.targets[0].weight_name
    assert not torch.equal(merged[name], base.tensor(name))
    assert list(merged) == base.names()
