"""Measures the cost of serving many adapters from one engine, and checks their answers.

    python scripts/bench/serving.py                  # 1, 10 and 100 adapters
    python scripts/bench/serving.py --check-only     # the answers of 100 alone

Two servers on the embedded model, fp32, on this machine: `plain`, vLLM's own without LoRA, and
`ours`, `python -m tinylora_rl.serve` on an empty watched directory, into which adapters are put
while it runs. For each count of adapters:

memory    what the engine counts: its slots, what adapters share, their own; and the resident memory
          of its processes, every adapter having answered; for each adapter since the count before,
          too. The first few bring the buffers of mixed batches
speed     tokens a second of a fixed load (greedy, no end of text), spread evenly over the adapters,
          over that of the base on `plain` in the same round; rounds visit the loads in shuffled
          order. Also the base's on `ours`.
answers   greedy, of every adapter to the same questions, all asked at once with the base among
          them, against Hugging Face `generate` on weights W + dW, token by token

Run it on an idle machine. One JSON object per count on stdout, then a Markdown table and the
answers' outcome; progress on stderr. Exit code 1 where an answer differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.tasks import ask
from tinylora_rl.tasks.arithmetic import base_model_dir
from tinylora_rl.tasks.arithmetic import rows as problems

BASE = "base"
CONCURRENCY = 32
ENGINE = {  # as configs/device/cpu.yaml, which `ours` takes by itself
    "dtype": "float32",
    "gpu-memory-utilization": 0.2,
    "max-num-seqs": 128,
    "max-num-batched-tokens": 8192,
}
SWITCHES = ("--enforce-eager", "--no-enable-chunked-prefill", "--disable-log-stats")
ENVIRONMENT = {
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32).eval()


def make_adapters(home: Path, count: int, size: float) -> list[Path]:
    """So many u=13 adapters with random v of this deviation."""
    adapter = inject(model(), TinyLoraConfig())
    made = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        adapter.v.data.copy_(size * torch.randn(adapter.v.shape, generator=generator))
        made.append(artifact.save(adapter, home / f"a{seed:04}"))
    return made


class Server:
    """A server in processes of its own, asked over HTTP."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, *words, "--port", str(port)],
                env={**os.environ, **ENVIRONMENT},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(self._log.read_text()[-4000:])
            try:
                self.call("/v1/models")
                return
            except urllib.error.URLError:
                time.sleep(0.2)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def greedy(self, name: str, prompt: list[int], num_tokens: int, **options: Any) -> list[int]:
        body = {"model": name, "prompt": prompt, "temperature": 0, "max_tokens": num_tokens}
        answer = self.call("/v1/completions", {**body, "return_token_ids": True, **options})
        tokens: list[int] = answer["choices"][0]["token_ids"]
        return tokens

    def tokens_per_s(self, names: Sequence[str], prompts: list[list[int]], size: int) -> float:
        """Of `size` requests of 32 tokens, evenly over `names`."""
        asked = [(names[i % len(names)], prompts[i % len(prompts)]) for i in range(size)]
        started_s = time.monotonic()
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            answers = list(pool.map(lambda a: self.greedy(*a, 32, ignore_eos=True), asked))
        return sum(map(len, answers)) / (time.monotonic() - started_s)

    def engine_rss(self) -> int:
        """Resident bytes of the server's child processes: the engine and its workers."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        return sum(child.memory_info().rss for child in children)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


@contextmanager
def servers(
    folder: Path, slots: int, *, with_plain: bool
) -> Iterator[tuple[Server | None, Server]]:
    base = str(base_model_dir())
    flags = [word for key, value in ENGINE.items() for word in (f"--{key}", str(value))]
    plain = None
    ours = Server(
        [
            *("-m", "tinylora_rl.serve", base, "--name", BASE, "--slots", str(slots)),
            *("--watch", str(folder / "watched")),
        ],
        folder / "ours.log",
    )
    try:
        if with_plain:
            words = ["-m", "vllm.entrypoints.openai.api_server", "--model", base, *flags, *SWITCHES]
            plain = Server(
                [*words, "--served-model-name", BASE, "--host", "127.0.0.1"], folder / "plain.log"
            )
        for server in filter(None, (ours, plain)):
            server.wait()
        yield plain, ours
    finally:
        for server in filter(None, (ours, plain)):
            server.stop()


def put(ours: Server, made: Sequence[Path], watched: Path) -> float:
    """Waits until all of `made` are served; returns the seconds it took for the new ones."""
    started_s = time.monotonic()
    for directory in made:
        if not (watched / directory.name).exists():
            shutil.copytree(directory, watched / f".{directory.name}")
            (watched / f".{directory.name}").rename(watched / directory.name)
    while len((state := ours.call("/v1/adapters"))["served"]) < len(made):
        if state["refused"]:
            raise RuntimeError(str(state["refused"]))
        time.sleep(0.05)
    return time.monotonic() - started_s


def measure(
    plain: Server, ours: Server, names: Sequence[str], prompts: list[list[int]], given: Any
) -> dict[str, Any]:
    """Measures tokens a second over those of the base on `plain`, round by round."""
    loads = {"plain": (plain, [BASE]), "base": (ours, [BASE]), "adapters": (ours, list(names))}
    rounds: list[dict[str, float]] = []
    order = random.Random(0)
    for _ in range(given.rounds):
        visited = list(loads)
        order.shuffle(visited)
        rounds.append(
            {
                load: loads[load][0].tokens_per_s(loads[load][1], prompts, given.requests)
                for load in visited
            }
        )
    summary: dict[str, Any] = {
        f"{load}_tokens_per_s": round(statistics.median(r[load] for r in rounds), 1)
        for load in loads
    }
    for load in ("base", "adapters"):
        ratios = [r[load] / r["plain"] for r in rounds]
        summary[f"{load}_ratio"] = round(statistics.median(ratios), 3)
        summary[f"{load}_ratio_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
    return summary


@torch.no_grad()
def merged_answers(made: Sequence[Path], prompts: list[list[int]]) -> dict[str, list[list[int]]]:
    """Returns {name: tokens for each prompt} of the base and of each adapter's merged model."""
    base, merged = model(), model()

    def answers() -> list[list[int]]:
        return [
            merged.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                do_sample=False,
                temperature=None,
                top_k=None,
                top_p=None,
                max_new_tokens=32,
            )[0, len(prompt) :].tolist()
            for prompt in prompts
        ]

    wanted = {BASE: answers()}
    for directory in made:
        update = artifact.load_update(directory, base)
        merged.load_state_dict(dict(update.merge(base.state_dict().items())))
        wanted[directory.name] = answers()
    return wanted


def check(ours: Server, made: Sequence[Path], prompts: list[list[int]]) -> dict[str, Any]:
    """Counts the answers that equal those of the merged models."""
    wanted = merged_answers(made, prompts)
    asked = [(name, number) for number in range(len(prompts)) for name in wanted]
    random.Random(0).shuffle(asked)
    with ThreadPoolExecutor(4 * CONCURRENCY) as pool:
        answers = list(pool.map(lambda a: ours.greedy(a[0], prompts[a[1]], 32), asked))
    differing = [
        f"{name} to question {number}"
        for (name, number), answer in zip(asked, answers, strict=True)
        if answer != wanted[name][number]
    ]
    unlike_base = sum(
        answer != of_base
        for name, answers in wanted.items()
        if name != BASE
        for answer, of_base in zip(answers, wanted[BASE], strict=True)
    )
    return {
        "answers": len(asked),
        "equal": len(asked) - len(differing),
        "differing": differing,
        "adapters": len(made),
        "distinct_adapters": len({json.dumps(answers) for answers in wanted.values()}) - 1,
        "unlike_base": unlike_base,
    }


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table(rows: list[dict[str, Any]]) -> str:
    head = (
        "adapters",
        "on disk, each",
        "in the engine, each",
        "engine's RSS",
        "per further adapter",
        "tokens/s",
        "x of the base alone (range)",
        "base beside them (range)",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        ratios = [
            "{:.2f} ({:.2f}-{:.2f})".format(row[f"{load}_ratio"], *row[f"{load}_ratio_range"])
            for load in ("adapters", "base")
        ]
        each = row["rss_bytes_each"]
        further = "" if each is None else f"{each:,} B"
        lines.append(
            f"| {row['adapters']} | {row['disk_bytes_each']:,} B | {row['own_bytes_each']:,} B "
            f"| {row['rss_bytes'] >> 20} MiB | {further} | {row['adapters_tokens_per_s']:,} "
            f"| {ratios[0]} | {ratios[1]} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Many adapters from one engine.")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--slots", type=int, default=16, help="different adapters in one batch")
    parser.add_argument("--questions", type=int, default=4, help="to every adapter")
    parser.add_argument("--requests", type=int, default=96, help="in a load")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=float, default=0.15, help="deviation of v's entries")
    parser.add_argument("--check-only", action="store_true", help="no memory, no speed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(base_model_dir())
    prompts = [ask(row, tokenizer) for row in problems("test", max(given.questions, 8), 0)]
    rows = []
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        (folder / "watched").mkdir()
        made = make_adapters(folder / "made", max(given.counts), given.size)
        progress("starting the servers")
        with servers(folder, given.slots, with_plain=not given.check_only) as (plain, ours):
            if plain is not None:
                for server in (plain, ours):
                    server.tokens_per_s([BASE], prompts, given.requests)  # warm
                for count in sorted(given.counts):
                    num_before = len(ours.call("/v1/adapters")["served"])
                    spent_s = put(ours, made[:count], folder / "watched")
                    names = [directory.name for directory in made[:count]]
                    for _ in range(2):  # warm; every adapter has answered
                        ours.tokens_per_s(names, prompts, max(given.requests, count))
                    progress(f"{count} adapters")
                    rss = ours.engine_rss()
                    before = rows[-1] if rows else None
                    memory = ours.call("/v1/adapters")["memory"]
                    row = {
                        "adapters": count,
                        "disk_bytes_each": folder_bytes(made[0]),
                        "own_bytes_each": memory["adapter_bytes"] // count,
                        "rss_bytes": rss,
                        "rss_bytes_each": before
                        and (rss - before["rss_bytes"]) // (count - before["adapters"]),
                        "added_s_each": round(spent_s / (count - num_before), 3),
                        **memory,
                        **measure(plain, ours, names, prompts, given),
                    }
                    rows.append(row)
                    print(json.dumps(row), flush=True)
            put(ours, made, folder / "watched")
            progress(f"asking {len(made)} adapters and their merged models")
            outcome = check(ours, made, prompts[: given.questions])
    print(json.dumps(outcome))
    if rows:
        print(table(rows))
        last = rows[-1]
        print(
            f"{last['num_slots']} slots of {last['slot_bytes']:,} B; shared by all: "
            f"{last['shared_bytes']:,} B"
        )
    print(
        f"{outcome['equal']} of {outcome['answers']} answers of {outcome['adapters']} adapters and "
        f"the base are those of the merged models ({outcome['unlike_base']} differ from the base's)"
    )
    return 1 if outcome["differing"] else 0


if __name__ == "__main__":
    sys.exit(main())
