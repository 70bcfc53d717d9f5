"""Builds vLLM's own command line, and checks what the user passed on to it."""

from __future__ import annotations

import dataclasses
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylora_rl.serving.admission import Limits, ServedAdapter
from tinylora_rl.serving.app import MIDDLEWARE
from tinylora_rl.vllm_plugin.lora_limits import lora_options, slot_rank_in
from tinylora_rl.vllm_plugin.worker_extension import EXTENSION

MAX_KNOWN_ADAPTERS = 1 << 16
"""Adapters that vLLM keeps outside its slots, a few kilobytes each; it reads others again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerArguments:
    """Our own arguments of the server."""

    base: Path
    name: str  # of the base, for clients
    host: str
    port: int
    slots: int  # different adapters in one batch
    limits: Limits
    options: Mapping[str, Any]  # of vLLM's engine, as keyword arguments of `vllm.LLM`
    passed: Sequence[str]  # for vLLM's command line; they win over `options`


def parse(ours: ServerArguments) -> Namespace:
    """Returns vLLM's parsed arguments.

    Raises:
        ValueError: an argument would undo what makes the server safe, or adapters served.
        SystemExit: vLLM does not take an argument; it has printed the reason.
    """
    from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0") not in ("", "0", "false", "False"):
        raise ValueError(
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING: with it, every client may name any path of this "
            "machine; unset it, and use --watch"
        )
    parser = make_arg_parser(
        FlexibleArgumentParser(prog="python -m tinylora_rl.serve ... --", allow_abbrev=False)
    )
    lora = {
        **lora_options(
            rank=ours.limits.max_rank, slots=ours.slots, known=max(ours.slots, MAX_KNOWN_ADAPTERS)
        ),
        "lora_target_modules": sorted(ours.limits.target_modules),
    }
    place = {
        "model": str(ours.base),
        "served_model_name": [ours.name],
        "host": ours.host,
        "port": ours.port,
    }
    arguments = parser.parse_args([*flags({**ours.options, **lora, **place}), *ours.passed])
    _check(arguments, ours)
    validate_parsed_serve_args(arguments)
    arguments.worker_extension_cls = EXTENSION
    arguments.middleware = [*arguments.middleware, MIDDLEWARE]
    return arguments


def limits_in(arguments: Namespace) -> Limits:
    """Returns the limits of the engine's slots; arguments passed on may have changed ours."""
    return Limits(
        max_rank=slot_rank_in(arguments), target_modules=frozenset(arguments.lora_target_modules)
    )


def name_adapters(arguments: Namespace, named: Mapping[str, ServedAdapter]) -> None:
    """Adds the adapters that vLLM loads before it answers the first request."""
    from vllm.entrypoints.openai.models.protocol import LoRAModulePath

    arguments.lora_modules = [
        LoRAModulePath(name=name, path=str(adapter.directory)) for name, adapter in named.items()
    ]


def flags(options: Mapping[str, Any]) -> list[str]:
    """Formats a command line: true is --key, false is --no-key, a list gives several values."""
    words: list[str] = []
    for key, value in options.items():
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return words


def _check(arguments: Namespace, ours: ServerArguments) -> None:
    """Refuses arguments, passed on to vLLM, that would override ours."""
    refused = {
        "model_tag": (arguments.model_tag is not None, "the base is the first argument, before --"),
        "model": (arguments.model != str(ours.base), "the base is the first argument, before --"),
        "host": (arguments.host != ours.host, "it is given before --"),
        "port": (arguments.port != ours.port, "it is given before --"),
        "trust_remote_code": (arguments.trust_remote_code, "no code of a model's is ever run"),
        "api_key": (
            bool(arguments.api_key),
            "every user of this machine can read a secret there; set VLLM_API_KEY",
        ),
        "lora_modules": (bool(arguments.lora_modules), "name adapters before --"),
        "enable_lora": (not arguments.enable_lora, "adapters are served as LoRA"),
        "worker_extension_cls": (bool(arguments.worker_extension_cls), "that place is taken"),
        "grpc": (arguments.grpc, "adapters come and go over HTTP only"),
        "headless": (arguments.headless, "a server without HTTP serves nobody"),
        "api_server_count": (
            arguments.api_server_count not in (None, 1),
            "one process has the registry; put several servers behind a proxy",
        ),
        "nnodes": (getattr(arguments, "nnodes", 1) != 1, "adapters lie on this machine's disk"),
    }
    for key, (is_set, reason) in refused.items():
        if is_set:
            raise ValueError(f"--{key.replace('_', '-')}: {reason}; leave it out")
    if not arguments.lora_target_modules:
        raise ValueError("--lora-target-modules: name the linears that adapters may change")
