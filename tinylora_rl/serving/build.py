"""Builds a server from its command line; finds all that can be wrong before it starts."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylora_rl.adapter import CheckpointWeights, TinyLoraConfig
from tinylora_rl.base_model import checkpoint_folder
from tinylora_rl.serving import vllm_arguments
from tinylora_rl.serving.admission import AdapterLoader, check_name, limits_of, open_named
from tinylora_rl.serving.app import ServerState

DEFAULT_SLOTS = 16
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The command line."""

    base: str  # folder or Hub id; `revision` is its commit there
    adapters: Sequence[str]  # DIR or NAME=DIR each
    watch: str | None  # a folder whose adapters are served as they come and go
    host: str
    port: int
    name: str | None  # of the base, for clients; None is `base` itself
    revision: str | None
    slots: int | None  # different adapters in one batch; None: as many as there are, at most 16
    passed: Sequence[str]  # vLLM's own arguments


def build_server(
    asked: ServeOptions, *, options: Mapping[str, Any], store: Path, bound: socket.socket
) -> tuple[Namespace, ServerState]:
    """Returns the arguments of `server.run`; starts nothing yet.

    Args:
        options: of vLLM's engine, as keyword arguments of `vllm.LLM`.
        store: a private folder for the verified copies of adapters.

    Raises:
        ValueError: the base, an adapter or an argument is wrong.
        OSError: the store cannot be written.
    """
    name = asked.name or asked.base
    adapters = open_named(asked.adapters, reserved=(name,))
    watched = _watched(asked.watch)
    base = checkpoint_folder(asked.base, revision=asked.revision)
    CheckpointWeights(base)  # a checkpoint, and not a quantised one
    slots = DEFAULT_SLOTS if watched else min(DEFAULT_SLOTS, max(1, len(adapters)))
    arguments = vllm_arguments.parse(
        vllm_arguments.ServerArguments(
            base=base,
            name=name,
            host=asked.host,
            port=asked.port,
            slots=slots if asked.slots is None else asked.slots,
            limits=limits_of(adapters.values(), TinyLoraConfig()),
            options={**options, **_context(base, options)},
            passed=asked.passed,
        )
    )
    names = tuple(arguments.served_model_name)
    for adapter in adapters:
        check_name(adapter, reserved=names)
    if asked.host not in LOOPBACK and not os.environ.get("VLLM_API_KEY"):
        print(
            f"warning: --host={asked.host}: everybody on the network may ask; set VLLM_API_KEY",
            file=sys.stderr,
        )
    host = f"[{asked.host}]" if ":" in asked.host else asked.host
    loader = AdapterLoader(base, store, vllm_arguments.limits_in(arguments))
    named = {name: loader.admit(adapter) for name, adapter in adapters.items()}
    vllm_arguments.name_adapters(arguments, named)
    return arguments, ServerState(
        loader=loader,
        named=named,
        watched=watched,
        base_names=names,
        socket=bound,
        address=f"http://{host}:{asked.port}",
    )


def _context(base: Path, options: Mapping[str, Any]) -> dict[str, int]:
    """Limits the context to one batch where vLLM may not split a prompt over several."""
    from transformers import AutoConfig

    if options.get("enable_chunked_prefill", True):
        return {}
    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    except OSError as error:
        raise ValueError(f"{base}: {str(error).splitlines()[0]}; give a checkpoint") from error
    context = getattr(config, "max_position_embeddings", None)
    most = int(options["max_num_batched_tokens"])
    return {"max_model_len": most} if context is None or context > most else {}


def _watched(given: str | None) -> Path | None:
    if given is None:
        return None
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"--watch={given}: no such folder; make it first")
    return folder
