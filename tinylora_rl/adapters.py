"""`python -m tinylora_rl.adapters inspect|verify|export|import|push DIR` and `plan`: reads, checks,
converts and publishes adapters on disk, and lists the ones that a budget pays for.

Exit codes: 0 done, 2 the adapter, the base or an argument is wrong (one line says which), 3 the
machine or the network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylora_rl import artifact
from tinylora_rl.artifact.files import adapter_dir
from tinylora_rl.artifact.manifest import read_numbers
from tinylora_rl.artifact.model_card import is_hub_id, render_table, summarise
from tinylora_rl.errors import EXIT_CONFIG, EXIT_ENVIRONMENT

if TYPE_CHECKING:
    import torch

FORMATS = ("peft-lora", "merged", "peft-tinylora")
DTYPES = ("float32", "bfloat16", "float16")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (None: the process's own) and returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except ValueError as error:
        _print_error(error)
        return EXIT_CONFIG
    except (OSError, ImportError) as error:
        _print_error(error)
        return EXIT_ENVIRONMENT


def _inspect(arguments: argparse.Namespace) -> int:
    code = 0
    for number, directory in enumerate(arguments.directories):
        try:
            table = render_table(
                [("adapter", directory), *summarise(*read_numbers(adapter_dir(directory)))]
            )
        except ValueError as error:
            _print_error(error)
            code = EXIT_CONFIG
            continue
        print(table if number == 0 else f"\n{table}")
    return code


def _verify(arguments: argparse.Namespace) -> int:
    stored = artifact.open(arguments.directory)  # before the base is read, which takes longer
    with _bar() as progress:
        stored.update(_weights(arguments), revision=arguments.revision, progress=progress)
    print(
        f"{arguments.directory}: verified on {arguments.base}: digest, payload_sha256, "
        "base_digest, projection_digest, fingerprint"
    )
    return 0


def _export(arguments: argparse.Namespace) -> int:
    stored = artifact.open(arguments.directory)
    _check_options(arguments)
    if arguments.to == "peft-lora":
        model = _weights(arguments)
    else:
        model = _model(arguments, stored.base_dtype)
    if arguments.to == "merged":
        tokenizer_dir = arguments.base if Path(arguments.base).is_dir() else None
        survival = stored.export_merged(
            arguments.out,
            model=model,
            dtype=_dtype(arguments.dtype),
            rounding=arguments.rounding or "nearest",
            seed=arguments.seed or 0,
            tokenizer_dir=tokenizer_dir,
        )
        tokenizer = "" if tokenizer_dir else "; no tokenizer: --base is not a folder"
        print(f"{arguments.out}: {survival.share:.1%} of the update survived rounding{tokenizer}")
        return 0
    if arguments.to == "peft-lora":
        import torch

        stored.export_peft_lora(
            arguments.out,
            model=model,
            rank=arguments.rank,
            dtype=_dtype(arguments.dtype) or torch.float32,
            base_model=arguments.base_model,
        )
    else:
        stored.export_peft_tinylora(
            arguments.out, model=model, untie=arguments.untie, base_model=arguments.base_model
        )
    print(f"{arguments.out}: {arguments.to}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from tinylora_rl.artifact.peft_lora import PEFT_CONFIG
    from tinylora_rl.base_model.folder import load_model

    if not (Path(arguments.directory) / PEFT_CONFIG).is_file():
        raise ValueError(f"{arguments.directory}: no {PEFT_CONFIG}, so no PEFT adapter is here")
    out = Path(arguments.out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"--out={out}: exists; give a new folder")
    _check_base(arguments)
    like = None if arguments.like is None else artifact.open(arguments.like).config
    dtype = _dtype(arguments.dtype)
    base = load_model(arguments.base, dtype=dtype, revision=arguments.revision)
    adapter = artifact.import_peft_tinylora(arguments.directory, base, like)
    provenance = {
        "base_model": arguments.base_model or arguments.base,
        "base_revision": arguments.revision or getattr(base.config, "_commit_hash", None),
    }
    artifact.save(adapter, out, provenance)
    print(
        f"{out}: {adapter.v.numel()} numbers over {len(adapter.targets)} modules, "
        f"r={adapter.config.r}, that make the same update"
    )
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from transformers import AutoConfig

    from tinylora_rl.adapter.budget import plan_budget

    plans = plan_budget(
        AutoConfig.from_pretrained(arguments.base, trust_remote_code=False).to_dict(),
        num_parameters=arguments.parameters,
        num_bytes=arguments.bytes,
        r=arguments.rank,
        projection=arguments.projection,
        v_dtype=arguments.v_dtype,
    )
    header = ("u", "n_tie", "tie_mode", "groups", "numbers", "bytes", "rank")
    print("{:>8} {:>6} {:<11}{:>7}{:>9}{:>9}{:>7}".format(*header))
    for plan in plans[: arguments.most]:
        config = plan.config
        print(
            f"{config.u:>8} {config.n_tie:>6} {config.tie_mode:<11}{plan.num_groups:>7}"
            f"{plan.num_parameters:>9}{plan.num_bytes:>9}{plan.degrees_of_freedom:>7}"
            + (f"   {plan.warning}" if plan.warning else "")
        )
    if len(plans) > arguments.most:
        print(f"{len(plans) - arguments.most} more with fewer groups; see --most")
    return 0


def _push(arguments: argparse.Namespace) -> int:
    try:
        address = artifact.push(
            arguments.directory,
            arguments.repo_id,
            private=arguments.private,
            base_model=arguments.base_model,
        )
    except ImportError as error:
        raise ImportError(f"push needs huggingface_hub: {error}") from error
    print(address)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuses an option that the chosen format would ignore."""
    belongs = {
        "rank": ("peft-lora",),
        "dtype": ("peft-lora", "merged"),
        "rounding": ("merged",),
        "untie": ("peft-tinylora",),
        "seed": ("merged",),
        "base_model": ("peft-lora", "peft-tinylora"),
    }
    for key, formats in belongs.items():
        if getattr(arguments, key) not in (None, False) and arguments.to not in formats:
            raise ValueError(f"--{key.replace('_', '-')}: only for --to {' or '.join(formats)}")


def _weights(arguments: argparse.Namespace) -> Any:
    """Opens the base's weights, to be read one at a time; no model is built."""
    _check_base(arguments)
    from tinylora_rl.base_model.folder import open_weights

    return open_weights(arguments.base, revision=arguments.revision)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Shows a progress bar on a terminal once there is something to wait for."""
    from tqdm import tqdm

    bar = tqdm(desc="decomposing the base", unit=" modules", delay=1.0, disable=None)

    def progress(num_done: int, num_modules: int) -> None:
        bar.total = num_modules
        bar.update(num_done - bar.n)

    with bar:
        yield progress


def _check_base(arguments: argparse.Namespace) -> None:
    if not Path(arguments.base).is_dir() and not is_hub_id(arguments.base):
        raise ValueError(f"--base={arguments.base}: no such folder, and no owner/name on the Hub")


def _model(arguments: argparse.Namespace, dtype: torch.dtype) -> Any:
    """Loads the base as a model in memory."""
    _check_base(arguments)
    from tinylora_rl.base_model.folder import load_model

    return load_model(arguments.base, dtype=dtype, revision=arguments.revision)


def _dtype(name: str | None) -> Any:
    import torch

    return None if name is None else getattr(torch, name)


def _print_error(error: Exception) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tinylora_rl.adapters", description="Adapters on disk.", allow_abbrev=False
    )
    commands = parser.add_subparsers(
        required=True, metavar="inspect|verify|export|import|push|plan"
    )
    inspect = commands.add_parser("inspect", help="verify the files of adapters and print them")
    inspect.add_argument("directories", nargs="+", metavar="DIR")
    inspect.set_defaults(command=_inspect)

    verify = commands.add_parser("verify", help="check an adapter against a base model")
    export = commands.add_parser("export", help="write it for PEFT and vLLM, or merged")
    import_ = commands.add_parser(
        "import",
        help="take over a TinyLoRA that PEFT trained",
        description="Writes an adapter that makes the same update as PEFT's. Without --like "
        "it has r*r numbers per module, which hold any update of rank r.",
    )
    for command in (verify, export, import_):
        command.add_argument("directory", metavar="DIR")
        command.add_argument("--base", required=True, metavar="PATH", help="folder or Hub id")
        command.add_argument("--revision", help="commit of the base on the Hub")
    for command in (export, import_):
        command.add_argument("--out", required=True, metavar="OUT", help="a new folder")
    verify.set_defaults(command=_verify)

    export.add_argument("--to", required=True, choices=FORMATS)
    export.add_argument("--dtype", choices=DTYPES, help="of the written weights")
    export.add_argument("--rank", type=int, help="pad the LoRA with zeros to this rank")
    export.add_argument("--rounding", choices=("nearest", "stochastic"))
    export.add_argument("--seed", type=int, help="of stochastic rounding; 0 where not given")
    export.add_argument(
        "--untie", action="store_true", help="one v per module, where PEFT needs it"
    )
    export.add_argument(
        "--base-model", metavar="ID", help="the base's name in PEFT's configuration"
    )
    export.set_defaults(command=_export)

    import_.add_argument(
        "--dtype", choices=DTYPES, help="that PEFT had the base in; the checkpoint's if not given"
    )
    import_.add_argument(
        "--like", metavar="ADAPTER", help="an adapter of ours whose configuration to use"
    )
    import_.add_argument("--base-model", metavar="ID", help="the base's name in the manifest")
    import_.set_defaults(command=_import)

    plan = commands.add_parser("plan", help="list the adapters that a budget pays for")
    plan.add_argument("--base", required=True, metavar="PATH", help="folder or Hub id")
    budget = plan.add_mutually_exclusive_group(required=True)
    budget.add_argument("--parameters", type=int, help="the most numbers to train")
    budget.add_argument("--bytes", type=int, help="the most bytes of v")
    plan.add_argument("--rank", type=int, default=2, help="r")
    plan.add_argument("--projection", default="normal", help="normal, basis (LoRA-XS), ...")
    plan.add_argument("--v-dtype", default="float32", help="float32, bfloat16, float16")
    plan.add_argument("--most", type=int, default=20, help="rows; the paper's choice is first")
    plan.set_defaults(command=_plan)

    push = commands.add_parser("push", help="publish on the Hugging Face Hub, with a model card")
    push.add_argument("directory", metavar="DIR")
    push.add_argument("repo_id", metavar="REPO_ID", help="owner/name")
    push.add_argument("--private", action="store_true")
    push.add_argument("--base-model", metavar="ID", help="the base's id on the Hub, for the card")
    push.set_defaults(command=_push)
    return parser


if __name__ == "__main__":
    sys.exit(main())
