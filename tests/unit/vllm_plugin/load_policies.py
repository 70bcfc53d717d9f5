"""Run by test_worker_extension.py in a process of its own: writes the workers' receipts as JSON.

Arguments: the base model's folder, the number of tensor-parallel workers, a JSON file with the
task, a JSON file to write.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

from tinylora_rl.vllm_plugin.worker_extension import WorkerExtension

EXTENSION = (
    f"{__name__ if __name__ != '__main__' else 'tests.unit.vllm_plugin.load_policies'}.Worker"
)


class Worker(WorkerExtension):
    """With a digest of all its weights, and the faults that a proof must find."""

    def weights_digest(self) -> str:
        digest = hashlib.sha256()
        for name, parameter in sorted(self.model_runner.model.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def hold_twice(self, v: bytes, num_groups: int, policy_version: int) -> None:
        """The update on top of the update, reported as one."""
        held = self._policy
        self.load_vector(v, num_groups, policy_version)
        pristine = dict(held._pristine)
        held._pristine = {key: layer.weight.data.clone() for key, layer in held._layers.items()}
        self.load_vector(v, num_groups, policy_version)
        held._pristine = pristine

    def walk(self, v: bytes, num_groups: int, num_steps: int) -> None:
        """So many policies around v, and v at last; here, because calls cost more than merges."""
        end = torch.frombuffer(bytearray(v), dtype=torch.float32)
        generator = torch.Generator().manual_seed(0)
        for step in range(num_steps):
            moved = end + torch.randn(end.shape, generator=generator) * 0.1
            self.load_vector(moved.numpy().tobytes(), num_groups, 100 + step)
        self.load_vector(v, num_groups, 100 + num_steps)

    def claim(self, v: bytes, num_groups: int, policy_version: int) -> None:
        """Nothing but the claim."""
        from tinylora_rl.adapter.digests import vector_digest

        self.record_policy(policy_version, vector_digest(v))

    def forget(self) -> None:
        """As a worker that was started anew."""
        self._policy, self._receipt = None, None


def main() -> None:
    from vllm import LLM, SamplingParams

    base, num_workers, task_file, out = sys.argv[1:]
    task = json.loads(Path(task_file).read_text())
    llm = LLM(
        model=base,
        dtype=task["dtype"],
        tensor_parallel_size=int(num_workers),
        worker_extension_cls=EXTENSION,
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=16,
        max_num_batched_tokens=1024,
        enable_chunked_prefill=False,
        gpu_memory_utilization=0.2,
    )
    result: dict = {"held": [], "base": llm.collective_rpc("weights_digest"), "adapters": []}
    for directory in task["adapters"]:
        llm.collective_rpc("load_adapter", args=(directory, "nearest"))
        result["adapters"].append(llm.collective_rpc("weights_digest"))
    bank = Path(task["bank"]).read_bytes()
    settings = {**task["settings"], "pristine": "device"}
    llm.collective_rpc("set_factors", args=(bank, settings))

    def log_probs() -> list[list[float]]:
        sampling = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        prompts = [{"prompt_token_ids": ids} for ids in task["prompts"]]
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        return [
            [
                entry[token].logprob
                for token, entry in zip(ids[1:], output.prompt_logprobs[1:], strict=True)
            ]
            for ids, output in zip(task["prompts"], outputs, strict=True)
        ]

    def hold(method: str, v: list[list[float]], version: int) -> list[dict]:
        payload = torch.tensor(v, dtype=torch.float32).numpy().tobytes()
        llm.collective_rpc(method, args=(payload, len(v), version))
        return llm.collective_rpc("policy_receipt")

    for version, v in enumerate(task["vectors"]):
        receipts = hold("load_vector", v, version)
        digests = llm.collective_rpc("weights_digest")
        result["held"].append({"receipts": receipts, "log_probs": log_probs(), "digests": digests})
    hold("walk", task["vectors"][-1], task["num_steps"])
    last = len(task["vectors"]) - 1
    result["after_walk"] = llm.collective_rpc("weights_digest")
    result["twice"] = hold("hold_twice", task["vectors"][-1], last)
    hold("load_vector", task["vectors"][0], 0)
    result["ignored"] = hold("claim", task["vectors"][-1], last)
    llm.collective_rpc("forget")
    result["restarted"] = llm.collective_rpc("policy_receipt")
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
