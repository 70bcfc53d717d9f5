"""Measures the cost of giving the policy to the sampler, by every way there is, in one run.

    python scripts/bench/weight_sync.py                        # 0.5B shape, bf16, on a CPU
    python scripts/bench/weight_sync.py --shape 7b             # on a GPU: the same, CUDA IPC

A trainer process (this one) has a random model of a Qwen2.5's shape; a vLLM engine in another
process samples from the same checkpoint. A sync is what a training step does:

verl      all weights, unmerged, through verl's own sender, receiver and loader: the peer. A merge
          that its users need (PEFT's) would come on top.
merged    ours: the adapted weights merged one at a time, streamed, and counted at both ends
vector    ours: v alone; the worker re-merges its weights in place
factors   ours: LoRA factors through vLLM's LoRA path (an engine of its own, with LoRA enabled)

Ours include the workers' receipts and the check of their weights; verl's has none. Rounds
visit the ways in shuffled order; a ratio is taken within a round, then summarised (median, range).
`transfer` is what is left of a sync after merge, load and pack. `peak` is the trainer's peak
resident memory above that before the sync, without its shared-memory bucket. Run it on an
idle machine. One JSON object per way on stdout, then a Markdown table; progress on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

JOB = f"bench{os.getpid()}"
WAYS = ("verl", "merged", "vector", "factors")
SHAPES = {
    "tiny": (256, 512, 2, 4, 2, 2048),
    "0.5b": (896, 4864, 24, 14, 2, 151936),
    "1.5b": (1536, 8960, 28, 12, 2, 151936),
    "7b": (3584, 18944, 28, 28, 4, 152064),
}
BUCKET_MB = {"tiny": 64, "0.5b": 512, "1.5b": 1024, "7b": 2048}
ENVIRONMENT = {
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VERL_RAY_JOB_ID": JOB,
    "VERL_REPLICA_RANK": "0",
}


def write_checkpoint(folder: Path, shape: str) -> None:
    """A random bf16 Qwen2 of that shape, without a tokenizer."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, intermediate, blocks, heads, kv_heads, vocabulary = SHAPES[shape]
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=512,
        tie_word_embeddings=shape != "7b",
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


# -- the sampler's process ----------------------------------------------------------------------


def serve(connection: Connection, model: str, *, with_lora: bool) -> None:
    """Runs a vLLM engine and calls its workers as the other end of the pipe asks."""
    from vllm import LLM

    extension = "weight_sync_worker.TimedWorker"  # beside this file
    llm = LLM(
        model=model,
        dtype="bfloat16",
        skip_tokenizer_init=True,
        worker_extension_cls=extension,
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=8,
        max_num_batched_tokens=256,
        enable_chunked_prefill=False,
        gpu_memory_utilization=0.3,
        **({"enable_lora": True, "max_loras": 1, "max_lora_rank": 8} if with_lora else {}),
    )
    connection.send("ready")
    while True:
        request = connection.recv()
        if request is None:
            return
        method, args, kwargs = request
        connection.send(llm.collective_rpc(method, args=args, kwargs=kwargs)[0])


class Sampler:
    """The engine's process, and one call at a time into its worker."""

    def __init__(self, model: str, *, with_lora: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, model), kwargs={"with_lora": with_lora}, daemon=True
        )
        self._process.start()
        assert self._connection.recv() == "ready"

    def begin(self, method: str, *args: Any, **kwargs: Any) -> None:
        self._connection.send((method, args, kwargs))

    def end(self) -> Any:
        return self._connection.recv()

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self.begin(method, *args, **kwargs)
        return self.end()

    def close(self) -> None:
        self._connection.send(None)
        self._process.join(30)
        self._process.kill()


# -- the trainer's side ---------------------------------------------------------------------------


@dataclasses.dataclass
class Spent:
    """One sync: seconds by stage, bytes that travelled, the trainer's peak memory."""

    seconds: float
    merge_s: float
    load_s: float
    pack_s: float
    num_bytes: int
    peak_bytes: int


class Trainer:
    """A base model, an adapter, and the ways to sync."""

    def __init__(self, model: str, shape: str, device: torch.device) -> None:
        from transformers import AutoModelForCausalLM

        from tinylora_rl.adapter import (
            CheckpointWeights,
            TinyLoraConfig,
            build_bank,
            find_targets,
            inject,
        )
        from tinylora_rl.adapter.bank import bank_to_bytes
        from tinylora_rl.verl_plugin.sync.verify import Verifier

        self.bucket_mb = BUCKET_MB[shape]
        self.use_shm = device.type == "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).to(device)
        config = TinyLoraConfig()
        targets = find_targets(self.model, config)
        bank = build_bank(self.model, targets, config)
        self.adapter = inject(self.model, config, bank=bank)
        self.bank = bank_to_bytes(bank)
        base = CheckpointWeights(model)
        self.proofs = {
            rounded: Verifier(
                bank, self.adapter.groups, base, dtype=torch.bfloat16, rounded=rounded
            )
            for rounded in ("nearest", "factors")
        }

    def weights(self, *, adapted_only: bool) -> Iterator[tuple[str, torch.Tensor]]:
        names = {target.weight_name for target in self.adapter.targets}
        for name, weight in self.model.state_dict().items():
            if not adapted_only or name in names:
                yield name, weight

    def move(self, version: int) -> None:
        generator = torch.Generator().manual_seed(version)
        v = torch.randn(self.adapter.v.shape, generator=generator) * 0.01
        self.adapter.v.data.copy_(v)

    def send(self, weights: Iterator[tuple[str, torch.Tensor]]) -> tuple[int, int]:
        """Through verl's sender; returns the bytes and the number of tensors that travelled."""
        from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender

        sender = BucketedWeightSender(
            zmq_handle=f"ipc:///tmp/rl-colocate-zmq-{JOB}-replica-0-rank-0.sock",
            bucket_size_mb=self.bucket_mb,
            use_shm=self.use_shm,
        )
        num_bytes = num_tensors = 0

        def counted() -> Iterator[tuple[str, torch.Tensor]]:
            nonlocal num_bytes, num_tensors
            for name, tensor in weights:
                num_bytes += tensor.nbytes
                num_tensors += 1
                yield name, tensor

        asyncio.run(sender.async_send_weights(counted()))
        return num_bytes, num_tensors

    def verl(self, sampler: Sampler, version: int) -> tuple[int, float]:
        del version
        sampler.begin("load_as_verl_does", use_shm=self.use_shm)
        sent, _ = self.send(self.weights(adapted_only=False))
        sampler.end()
        return sent, 0.0

    def merged(self, sampler: Sampler, version: int) -> tuple[int, float]:
        merging_s = 0.0

        def timed() -> Iterator[tuple[str, torch.Tensor]]:
            nonlocal merging_s
            stream = self.adapter.merge(self.weights(adapted_only=True), dtype=torch.bfloat16)
            while True:
                start_s = time.perf_counter()
                item = next(stream, None)
                synchronize()
                merging_s += time.perf_counter() - start_s
                if item is None:
                    return
                yield item

        sampler.begin("load_policy", version, None, adapted_only=True, use_shm=self.use_shm)
        sent, num_tensors = self.send(timed())
        sampler.end()
        self.verify(sampler, "nearest", num_tensors)
        return sent, merging_s

    def vector(self, sampler: Sampler, version: int) -> tuple[int, float]:
        v = self.adapter.acting_v.cpu()
        sampler.call("load_vector", v.numpy().tobytes(), len(v), version)
        self.verify(sampler, "nearest")
        return v.nbytes, 0.0

    def factors(self, sampler: Sampler, version: int) -> tuple[int, float]:
        from tinylora_rl.verl_plugin.sync.policy_message import lora_config, lora_tensors

        sampler.begin(
            "load_policy",
            version,
            None,
            use_shm=self.use_shm,
            peft_config=lora_config(self.adapter.config),
            base_sync_done=True,
        )
        sent, num_tensors = self.send(lora_tensors(self.adapter, torch.bfloat16))
        sampler.end()
        self.verify(sampler, "factors", num_tensors)
        return sent, 0.0

    def verify(self, sampler: Sampler, rounded: str, num_tensors: int | None = None) -> None:
        receipt = sampler.call("policy_receipt")
        assert num_tensors is None or receipt["num_tensors"] == num_tensors, "other tensors arrived"
        self.proofs[rounded].check([receipt], self.adapter.acting_v.cpu())


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def resident_bytes() -> tuple[int, int]:
    """(now, peak since the last reset) of this process's own memory, shared buckets left out."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    shared = int(fields["RssShmem"].split()[0])
    return tuple((int(fields[key].split()[0]) - shared) << 10 for key in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def measure(
    way: Callable[[Sampler, int], tuple[int, float]], sampler: Sampler, version: int
) -> Spent:
    sampler.call("reset_times")
    Path("/proc/self/clear_refs").write_text("5")
    before, _ = resident_bytes()
    start_s = time.perf_counter()
    num_bytes, merge_s = way(sampler, version)
    seconds = time.perf_counter() - start_s
    _, peak = resident_bytes()
    times = sampler.call("times")
    return Spent(
        seconds=seconds,
        merge_s=merge_s + times["merge_s"],
        load_s=times["load_s"],
        pack_s=times["pack_s"],
        num_bytes=num_bytes,
        peak_bytes=max(0, peak - before),
    )


def report(samples: dict[str, list[Spent]], shape: str) -> None:
    print(
        f"\n| way ({shape}, bf16) | bytes | seconds (range) | transfer | merge | load | pack |"
        " x of verl's (range) | trainer's peak |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in WAYS:
        spent = samples[name]
        ratios = [own.seconds / peer.seconds for own, peer in zip(spent, samples["verl"])]  # noqa: B905
        total = [sample.seconds for sample in spent]
        stages = {
            stage: statistics.median(getattr(sample, stage) for sample in spent)
            for stage in ("merge_s", "load_s", "pack_s")
        }
        transfer = statistics.median(total) - sum(stages.values())
        row = {
            "way": name,
            "bytes": spent[0].num_bytes,
            "seconds": statistics.median(total),
            "range_s": [min(total), max(total)],
            "transfer_s": transfer,
            **stages,
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "peak_bytes": max(sample.peak_bytes for sample in spent),
            "rounds": len(spent),
        }
        print(json.dumps(row), file=sys.stderr)
        print(
            f"| {name} | {row['bytes']:,} "
            f"| {row['seconds']:.3f} ({min(total):.3f}-{max(total):.3f}) "
            f"| {transfer:.3f} | {stages['merge_s']:.3f} | {stages['load_s']:.3f} "
            f"| {stages['pack_s']:.3f} | {row['ratio']:.2f} ({min(ratios):.2f}-{max(ratios):.2f}) "
            f"| {row['peak_bytes'] / 2**20:.0f} MiB |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    os.environ.update(
        ENVIRONMENT
        if not on_gpu
        else {k: v for k, v in ENVIRONMENT.items() if k.startswith(("VERL_", "HF_"))}
    )
    import verl  # noqa: F401  # chooses the platform

    with tempfile.TemporaryDirectory() as folder:
        print("writing the checkpoint ...", file=sys.stderr)
        write_checkpoint(Path(folder), arguments.shape)
        print("starting the engines ...", file=sys.stderr)
        plain = Sampler(folder, with_lora=False)
        with_lora = Sampler(folder, with_lora=True)
        print("building the bank ...", file=sys.stderr)
        trainer = Trainer(folder, arguments.shape, torch.device("cuda" if on_gpu else "cpu"))
        settings = {"groups": trainer.adapter.groups}
        plain.call("set_factors", trainer.bank, {**settings, "pristine": "device"})
        with_lora.call("set_factors", trainer.bank, settings)
        samples: dict[str, list[Spent]] = {name: [] for name in WAYS}
        order = random.Random(0)
        for version in range(arguments.rounds + 1):  # the first warms up
            trainer.move(version)
            for name in order.sample(WAYS, len(WAYS)):
                sampler = with_lora if name == "factors" else plain
                spent = measure(getattr(trainer, name), sampler, version)
                if version:
                    samples[name].append(spent)
                print(f"round {version} {name}: {spent}", file=sys.stderr)
        plain.close()
        with_lora.close()
    report(samples, arguments.shape)


if __name__ == "__main__":
    main()
