"""Measures the cost of the SVD bank: python scripts/bench/bank.py {matrix,model,cache} [options].

matrix   one weight by our method, by LAPACK (torch.linalg.svd) and by torch.svd_lowrank, with each
         one's error against float64 LAPACK (eigh of WtW); with and without a spectral gap
model    the bank of a 7B-shaped model (Qwen2.5-7B: 28 blocks), made and decomposed block by block
cache    a 7B-shaped checkpoint on disk: first start (hash, decompose, store) and second start

One JSON object per result on stdout; progress on stderr. `cpu_seconds` is the time of all threads:
on a busy machine run with OMP_NUM_THREADS=1 and read that, since threads that wait for each other
at barriers make wall time a measure of the neighbours.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from tqdm import tqdm

from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.adapter.bank import decompose_targets
from tinylora_rl.adapter.bank_cache import load_or_build
from tinylora_rl.adapter.svd import decompose
from tinylora_rl.adapter.targets import targets_of
from tinylora_rl.adapter.weights import CheckpointWeights

HIDDEN, KEY_VALUE, INTERMEDIATE = 3584, 512, 18944  # Qwen2.5-7B
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEY_VALUE, HIDDEN),
    "self_attn.v_proj": (KEY_VALUE, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}
SPIKES = (9.0, 6.0, 5.0, 4.0, 3.0)  # over noise of norm 1


def random_weight(num_out: int, num_in: int, *, has_gap: bool, seed: int) -> torch.Tensor:
    """bf16: Gaussian of norm about 1, with planted `SPIKES` where `has_gap`."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_out, num_in, generator=generator) / (num_out**0.5 + num_in**0.5)
    if has_gap:
        left, right = (
            torch.linalg.qr(torch.randn(n, len(SPIKES), generator=generator)).Q
            for n in (num_out, num_in)
        )
        weight.addmm_(left * torch.tensor(SPIKES), right.T)
    return weight.to(torch.bfloat16)


class RandomModel:
    """`Weights` of the 7B's shapes, each made when asked for; `made` is the time it took."""

    def __init__(self, num_blocks: int, *, has_gap: bool) -> None:
        self._shapes = {
            f"model.layers.{block}.{name}.weight": shape
            for block in range(num_blocks)
            for name, shape in SHAPES.items()
        }
        self._has_gap = has_gap
        self.made = {"seconds": 0.0, "cpu_seconds": 0.0}

    def names(self) -> list[str]:
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def dtype(self, name: str) -> torch.dtype:
        return torch.bfloat16

    def tensor(self, name: str) -> torch.Tensor:
        watch = Watch()
        seed = self.names().index(name)
        weight = random_weight(*self._shapes[name], has_gap=self._has_gap, seed=seed)
        self.made = {key: self.made[key] + value for key, value in watch.read("cpu").items()}
        return weight


def bench_matrix(args: argparse.Namespace) -> None:
    for has_gap in (True, False):
        weight = random_weight(args.rows, args.columns, has_gap=has_gap, seed=args.seed)
        weight = weight.to(args.device)
        upcast = weight.float()
        r = args.rank
        truth = leading_truth(upcast, r)
        details = {}

        def ours(weight=weight, details=details, r=r):
            found = decompose(weight, r)
            details["ours"] = found.measures()
            return found.U_OR, found.S_R, found.Vt_RI.T

        def lapack(upcast=upcast):
            U, S, Vt = torch.linalg.svd(upcast, full_matrices=False)
            return U, S, Vt.T

        methods: dict[str, tuple[Callable, int]] = {"ours": (ours, 5), "linalg.svd": (lapack, 1)}
        for extra, num_iterations in ((0, 2), (16, 2), (16, 20), (16, 60)):
            name = f"svd_lowrank(q=r+{extra},niter={num_iterations})"
            q = r + extra
            methods[name] = (
                lambda upcast=upcast, q=q, n=num_iterations: torch.svd_lowrank(upcast, q, n),
                3,
            )
        ours()  # threads, libraries
        for name, (method, repeats) in methods.items():
            watches = []
            for _ in range(repeats):
                watch = Watch()
                found = method()
                watches.append(watch.read(args.device))
            report(
                bench="matrix",
                method=name,
                shape=[args.rows, args.columns],
                has_gap=has_gap,
                **min(watches, key=lambda times: times["cpu_seconds"]),
                **errors(found, truth, r),
                **details.get(name, {}),
            )


def leading_truth(weight: torch.Tensor, r: int) -> tuple[torch.Tensor, ...]:
    """Returns U, S, V of the r + 1 largest singular values, by float64 eigenvectors of Wt W."""
    weight = weight.cpu().double()
    values, vectors = torch.linalg.eigh(weight.T @ weight)
    V = vectors[:, -r - 1 :].flip(1)
    S = values[-r - 1 :].flip(0).sqrt()
    return weight @ V / S, S, V


class Watch:
    """Measures wall and processor time since it was made."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def read(self, device: str) -> dict[str, float]:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        return {
            "seconds": time.perf_counter() - self._wall_s,
            "cpu_seconds": time.process_time() - self._cpu_s,
        }


def errors(found, truth, r: int) -> dict[str, float]:
    """Returns the largest relative error of a value; angles of vectors and subspace, radians."""
    U, S, V = (factor.cpu().double() for factor in found)
    true_U, true_S, true_V = truth[0][:, :r], truth[1], truth[2][:, :r]
    sides = ((U[:, :r], true_U), (V[:, :r], true_V))
    return {
        "value_error": float(((S[:r] - true_S[:r]) / true_S[:r]).abs().max()),
        "vector_angle": max(
            float((a - t * (a * t).sum(dim=0)).norm(dim=0).max().clamp(max=1).asin())
            for a, t in sides
        ),
        "subspace_angle": max(
            float(torch.linalg.norm(a - t @ (t.T @ a), ord=2).clamp(max=1).asin()) for a, t in sides
        ),
        "smallest_gap": float(-true_S.diff().max() / true_S[0]),
    }


def bench_model(args: argparse.Namespace) -> None:
    weights = RandomModel(args.blocks, has_gap=not args.no_gap)
    config = TinyLoraConfig(r=args.rank)
    targets = targets_of(weights.names(), config)
    watch = Watch()
    with tqdm(total=len(targets), unit="module") as bar:
        svds = decompose_targets(
            weights, targets, args.rank, device=args.device, progress=lambda *_: bar.update()
        )
    times = {key: value - weights.made[key] for key, value in watch.read(args.device).items()}
    report(
        bench="model",
        blocks=args.blocks,
        has_gap=not args.no_gap,
        **times,
        seconds_for_28_blocks=times["seconds"] / args.blocks * 28,
        largest_angle=max(svd.angle for svd in svds.values()),
        largest_residual=max(svd.residual for svd in svds.values()),
        refined=sum(svd.is_refined for svd in svds.values()),
        modules=len(svds),
    )


def bench_cache(args: argparse.Namespace) -> None:
    if args.scratch is not None:
        Path(args.scratch).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        directory, cache_dir = Path(scratch) / "base", Path(scratch) / "banks"
        size = write_checkpoint(directory, args.blocks)
        config = TinyLoraConfig(r=args.rank)
        for start in ("first", "second", "second, another u and split"):
            if "another" in start:
                config = dataclasses.replace(config, u=1, svd_split="sqrt")
            watch = Watch()
            weights = CheckpointWeights(directory)
            targets = targets_of(weights.names(), config)
            with tqdm(total=len(targets), unit="module") as bar:
                load_or_build(
                    weights,
                    targets,
                    config,
                    cache_dir=cache_dir,
                    device=args.device,
                    progress=lambda *_, bar=bar: bar.update(),
                )
            report(
                bench="cache",
                start=start,
                blocks=args.blocks,
                checkpoint_bytes=size,
                **watch.read(args.device),
            )
        entry = sum(file.stat().st_size for file in cache_dir.rglob("*") if file.is_file())
        report(bench="cache", cache_bytes=entry)


def write_checkpoint(directory: Path, num_blocks: int) -> int:
    """Writes files of the real size: one shard per block, each with the values of the first."""
    directory.mkdir()
    places, size = {}, 0
    model = RandomModel(1, has_gap=True)
    first = {name: model.tensor(name) for name in model.names()}
    for block in range(num_blocks):
        file = f"model-{block + 1:05d}-of-{num_blocks:05d}.safetensors"
        part = {name.replace(".0.", f".{block}."): weight for name, weight in first.items()}
        safetensors.torch.save_file(part, directory / file)
        places |= dict.fromkeys(part, file)
        size += (directory / file).stat().st_size
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return size


def report(**result: object) -> None:
    load = os.getloadavg()[0]
    print(json.dumps({**result, "threads": torch.get_num_threads(), "load": load}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", choices=["matrix", "model", "cache"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=28)
    parser.add_argument("--rows", type=int, default=HIDDEN)
    parser.add_argument("--columns", type=int, default=HIDDEN)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-gap", action="store_true", help="model: Gaussian weights, no spikes")
    parser.add_argument("--scratch", help="cache: where to write the checkpoint, 0.47 GB a block")
    args = parser.parse_args()
    {"matrix": bench_matrix, "model": bench_model, "cache": bench_cache}[args.bench](args)


if __name__ == "__main__":
    main()
