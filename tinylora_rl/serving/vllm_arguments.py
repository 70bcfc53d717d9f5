"""vLLM's own command line, with what serving adapters needs of it."""

from __future__ import annotations

import dataclasses
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylora_rl.serving.admission import Admitted, Limits
from tinylora_rl.serving.app import MIDDLEWARE
from tinylora_rl.serving.worker import EXTENSION

MAX_KNOWN_ADAPTERS = 1 << 16
"""How many vLLM keeps outside its slots, a few kilobytes each; beyond it, it reads them again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the server is to be.

    Attributes:
        base: folder of the base model; `name` is what clients call it.
        slots: different adapters in one batch.
        options: of vLLM's engine, as keyword arguments of `vllm.LLM`.
        passed: further arguments for vLLM's command line; they win over `options`.
    """

    base: Path
    name: str
    host: str
    port: int
    slots: int
    limits: Limits
    options: Mapping[str, Any]
    passed: Sequence[str]


def parse(wanted: Wanted) -> Namespace:
    """vLLM's parsed arguments.

    Raises:
        ValueError: an argument would undo what makes the server safe, or adapters served.
        SystemExit: vLLM does not take an argument; it has said why.
    """
    from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0") not in ("", "0", "false", "False"):
        raise ValueError(
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING: with it, whoever may ask may name any path of this "
            "machine; unset it, and use --watch"
        )
    parser = make_arg_parser(
        FlexibleArgumentParser(prog="python -m tinylora_rl.serve ... --", allow_abbrev=False)
    )
    lora = {
        "enable_lora": True,
        "max_loras": wanted.slots,
        "max_cpu_loras": max(wanted.slots, MAX_KNOWN_ADAPTERS),
        "max_lora_rank": wanted.limits.max_rank,
        "lora_target_modules": sorted(wanted.limits.target_modules),
    }
    ours = {
        "model": str(wanted.base),
        "served_model_name": [wanted.name],
        "host": wanted.host,
        "port": wanted.port,
    }
    arguments = parser.parse_args(
        [*flags({**wanted.options, **lora, **ours}), *wanted.passed],
    )
    _check(arguments, wanted)
    validate_parsed_serve_args(arguments)
    arguments.worker_extension_cls = EXTENSION
    arguments.middleware = [*arguments.middleware, MIDDLEWARE]
    return arguments


def limits_in(arguments: Namespace) -> Limits:
    """What the engine will have slots for, whoever asked for it."""
    return Limits(
        max_rank=arguments.max_lora_rank,
        target_modules=frozenset(arguments.lora_target_modules),
    )


def name_adapters(arguments: Namespace, given: Mapping[str, Admitted]) -> None:
    """vLLM loads these before it answers anybody."""
    from vllm.entrypoints.openai.models.protocol import LoRAModulePath

    arguments.lora_modules = [
        LoRAModulePath(name=name, path=str(adapter.directory)) for name, adapter in given.items()
    ]


def flags(options: Mapping[str, Any]) -> list[str]:
    """`options` as a command line: true is --key, false --no-key, a list repeats its values."""
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


def _check(arguments: Namespace, wanted: Wanted) -> None:
    """What was passed on to vLLM leaves our own arguments standing."""
    refused = {
        "model_tag": (arguments.model_tag is not None, "the base is the first argument, before --"),
        "model": (arguments.model != str(wanted.base), "the base is the first argument, before --"),
        "host": (arguments.host != wanted.host, "it is given before --"),
        "port": (arguments.port != wanted.port, "it is given before --"),
        "trust_remote_code": (arguments.trust_remote_code, "no code of a model's is ever run"),
        "api_key": (
            bool(arguments.api_key),
            "a secret on the command line is everybody's; set VLLM_API_KEY",
        ),
        "lora_modules": (bool(arguments.lora_modules), "name adapters before --"),
        "enable_lora": (not arguments.enable_lora, "adapters are served as LoRA"),
        "worker_extension_cls": (bool(arguments.worker_extension_cls), "that place is taken"),
        "grpc": (arguments.grpc, "adapters come and go over HTTP only"),
        "headless": (arguments.headless, "a server without HTTP serves nobody"),
        "api_server_count": (
            arguments.api_server_count not in (None, 1),
            "one process keeps the roster; put several servers behind a proxy",
        ),
        "nnodes": (getattr(arguments, "nnodes", 1) != 1, "adapters lie on this machine's disk"),
    }
    for key, (is_set, reason) in refused.items():
        if is_set:
            raise ValueError(f"--{key.replace('_', '-')}: {reason}; leave it out")
    if not arguments.lora_target_modules:
        raise ValueError("--lora-target-modules: name the linears that adapters may change")
