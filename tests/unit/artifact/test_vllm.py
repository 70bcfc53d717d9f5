"""vLLM serves the exported LoRA: the same greedy tokens as the adapted Hugging Face model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.unit.artifact.conftest import arithmetic_model, arithmetic_prompts, save_adapter
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.tasks.arithmetic import base_model_dir

ENVIRONMENT = {
    # of the CPU platform (configs/platform/cpu.yaml); no effect on a GPU but the first two
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@torch.no_grad()
def greedy(model, prompts: list[list[int]]) -> list[list[int]]:
    answers = []
    for prompt in prompts:
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            max_new_tokens=48,
        )
        answers.append(output[0, len(prompt) :].tolist())
    return answers


@pytest.mark.e2e
@pytest.mark.timeout(180)
@pytest.mark.skipif(torch.cuda.is_available(), reason="fp32 kernels and greedy ties differ there")
def test_vllm_generates_what_the_adapted_model_generates(tmp_path):
    config = TinyLoraConfig(u=1, n_tie=1)
    directory, _ = save_adapter(tmp_path / "adapter", config, size=0.2)
    model, prompts = arithmetic_model(), arithmetic_prompts(16)
    lora = artifact.export_peft_lora(directory, tmp_path / "lora", model=model)
    wanted = {"base": greedy(model, prompts)}
    with artifact.adapted(directory, model):
        wanted["adapted"] = greedy(model, prompts)
    num_changed = sum(map(list.__ne__, wanted["adapted"], wanted["base"]))
    assert num_changed >= 4, "the adapter changes too little for the comparison to mean anything"

    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    served = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("serve_lora.py")),
            *map(str, (base_model_dir(), lora, tmp_path / "prompts.json", tmp_path / "out.json")),
        ],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert served.returncode == 0, served.stdout[-4000:]
    got = json.loads((tmp_path / "out.json").read_text())
    assert got["adapted"] == wanted["adapted"]
    assert got["base"] == wanted["base"]
