"""Keeps the singular triplets of a base model on disk: one process decomposes, the others load.

Everything that depends on the configuration beyond rank and target modules (P, u, seed, ties, how S
is split) is drawn after loading, so all adapters of one rank on one base share an entry:

    <cache_dir>/<key>/factors.safetensors   U, S, Vt and norm of every module
    <cache_dir>/<key>/manifest.json         its content and the sha256 of the other; written last
    <cache_dir>/<key>.lock                  locked by the process that builds
    <cache_dir>/digests/                    digests of checkpoint files; see `weight_digests`

An entry that is incomplete, damaged or does not match its key is never used: it is rebuilt.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from tinylora_rl.adapter import svd as svd_module
from tinylora_rl.adapter.bank import Bank, assemble, decompose_targets
from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.digests import base_digest
from tinylora_rl.adapter.svd import TruncatedSvd
from tinylora_rl.adapter.targets import Target
from tinylora_rl.adapter.weights import Weights, as_weights
from tinylora_rl.atomic import read_json, write_bytes, write_json

FACTORS = "factors.safetensors"
MANIFEST = "manifest.json"
DIGESTS = "digests"
FORMAT = 1

logger = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """Returns $XDG_CACHE_HOME/tinylora_rl/banks, by default ~/.cache/tinylora_rl/banks."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # the standard says: relative paths there are to be ignored
    root = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return root / "tinylora_rl" / "banks"


def load_or_build(
    source: nn.Module | Weights,
    targets: Sequence[Target],
    config: TinyLoraConfig,
    *,
    cache_dir: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Bank:
    """Does `build_bank`, the costly part once per base model, rank and target modules.

    Processes that ask for the same entry at the same time wait for the one that builds it; if that
    one dies, the next takes over.

    Args:
        source: the base; with `CheckpointWeights` an unchanged checkpoint is not read again.
        cache_dir: None is `default_cache_dir()`. One that cannot be written costs time only.
        device: where to decompose and keep the factors; None is the weights' own device.
        progress: called with (modules done, modules in all) after each module that is decomposed.

    Raises:
        ValueError: see `build_bank`.
    """
    weights = as_weights(source)
    cache_dir = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    content = _content(weights, targets, config, cache_dir)
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    svds = _read(cache_dir / key, content, targets)
    if svds is None:
        with _locked(cache_dir / f"{key}.lock"):
            svds = _read(cache_dir / key, content, targets, warn=True)  # another may have built it
            if svds is None:
                svds = decompose_targets(
                    weights, targets, config.r, device=device, progress=progress
                )
                _write(cache_dir / key, content, svds)
    device = device or weights.tensor(targets[0].weight_name).device
    return assemble({name: svd.to(device) for name, svd in svds.items()}, config)


def _content(
    weights: Weights, targets: Sequence[Target], config: TinyLoraConfig, cache_dir: Path
) -> dict[str, object]:
    """Lists everything that an entry depends on; the key is its digest."""
    return {
        "format": FORMAT,
        "base_digest": base_digest(weights, targets, memo_dir=cache_dir / DIGESTS),
        "r": config.r,
        "target_modules": list(config.target_modules),
        "algorithm": svd_module.ALGORITHM,
        "angle_tolerance": svd_module.ANGLE_TOLERANCE,
    }


def _write(entry: Path, content: Mapping[str, object], svds: Mapping[str, TruncatedSvd]) -> None:
    tensors = {}
    for name, svd in svds.items():
        tensors[f"{name}.U"] = svd.U_OR.cpu()
        tensors[f"{name}.S"] = svd.S_R.cpu()
        tensors[f"{name}.Vt"] = svd.Vt_RI.cpu()
    payload = safetensors.torch.save(tensors)
    modules = {name: svd.measures() for name, svd in svds.items()}
    manifest = {**content, "sha256": hashlib.sha256(payload).hexdigest(), "modules": modules}
    try:
        entry.mkdir(parents=True, exist_ok=True)
        for partial in entry.glob(".*.partial"):  # of a writer that was killed; we hold the lock
            partial.unlink()
        write_bytes(entry / FACTORS, payload)
        write_json(entry / MANIFEST, manifest)
    except OSError as error:
        # a full disk must not cost a finished decomposition; the next start builds again
        logger.warning("cache_dir=%s: the bank was not stored: %s", entry.parent, error)


def _read(
    entry: Path, content: Mapping[str, object], targets: Sequence[Target], *, warn: bool = False
) -> dict[str, TruncatedSvd] | None:
    """Reads the entry's triplets, on the CPU and in the order of `targets`; None: not usable."""
    try:
        if not (entry / MANIFEST).exists():
            return None
        manifest = read_json(entry / MANIFEST)
        if manifest is None:
            raise ValueError(f"{MANIFEST} is no JSON object")
        if {key: manifest.get(key) for key in content} != content:
            raise ValueError(f"{MANIFEST} describes another bank")
        payload = (entry / FACTORS).read_bytes()
        if hashlib.sha256(payload).hexdigest() != manifest["sha256"]:
            raise ValueError(f"{FACTORS} does not match its sha256")
        tensors = safetensors.torch.load(payload)
        return {
            target.name: TruncatedSvd(
                U_OR=tensors[f"{target.name}.U"],
                S_R=tensors[f"{target.name}.S"],
                Vt_RI=tensors[f"{target.name}.Vt"],
                **manifest["modules"][target.name],
            )
            for target in targets
        }
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        if warn:
            logger.warning("%s: damaged (%s); the bank is built again", entry, error)
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Admits one process at a time. The kernel frees the lock when its process ends, however.

    A cache that cannot be written needs no lock: it only logs a warning.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "ab"))  # never deleted: waiters hold it open
        except OSError as error:
            logger.warning("cache_dir=%s: cannot be written (%s)", path.parent, error.strerror)
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("%s: waiting for the process that builds this bank", path)
            started_s = time.monotonic()
            fcntl.flock(file, fcntl.LOCK_EX)
            logger.info("%s: free after %.0f s", path, time.monotonic() - started_s)
        yield  # closing the file unlocks
