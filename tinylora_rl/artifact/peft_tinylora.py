"""Converts to and from PEFT's own TinyLoRA (peft 0.21).

PEFT stores the frozen factors and P beside v (`save_projection`): any split of S and any P of ours
can be written, but not any tying: PEFT derives the groups from one ratio, `weight_tying`. Our P
follows from a seed, so what comes from PEFT is solved for the v that gives the same update.

Legend: O out, I in, R rank, U numbers per group, G groups, M modules.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from tinylora_rl.adapter import Adapter, TinyLoraConfig, inject
from tinylora_rl.adapter.config import TARGET_MODULES
from tinylora_rl.artifact.files import ArtifactError, read_bounded
from tinylora_rl.artifact.manifest import MANIFEST_LIMIT_BYTES
from tinylora_rl.artifact.peft_lora import PEFT_CONFIG, PEFT_WEIGHTS, peft_base, write_peft
from tinylora_rl.artifact.stored import StoredAdapter, opened
from tinylora_rl.base_model.folder import load_model

WEIGHTS_LIMIT_BYTES = 1 << 30  # the factors of a 70B model at r=2 are 90 MB
TOLERANCE = 1e-3  # |dW - dW of PEFT| / |dW of PEFT|: singular vectors are reproducible to 1e-5
_PREFIX = "base_model.model."
_V = "base_model.tinylora_v."


def export_peft_tinylora(
    adapter: StoredAdapter | str | Path,
    out: str | Path,
    *,
    model: nn.Module | str | Path,
    untie: bool = False,
    base_model: str | None = None,
) -> Path:
    """Writes `adapter` to `out` as a PEFT TinyLoRA, P and factors included.

    Args:
        model: the base model, the same afterwards; or its folder or id on the Hub.
        untie: write one v per module. The same function, but training on from it trains them apart.
        base_model: what to call the base model; None takes the manifest's name.

    Raises:
        ValueError: PEFT cannot tie the modules this way and `untie` is off; `out` exists; or see
            `StoredAdapter.update`.
    """
    stored = opened(adapter)
    base = model
    if not isinstance(base, nn.Module):
        base = load_model(base, dtype=stored.base_dtype)
    with stored.adapted(base) as injected:
        order = _peft_order(base, {target.name for target in injected.targets})
        groups = {name: at for at, name in enumerate(order)} if untie else injected.groups
        num_groups = len(set(groups.values()))
        _check_tying(order, groups, injected.config)
        tensors = {}
        for name in order:
            factors = injected.bank[name]
            tensors[f"{_PREFIX}{name}.tinylora_A"] = factors.right_RI
            tensors[f"{_PREFIX}{name}.tinylora_B"] = factors.left_OR
            tensors[f"{_PREFIX}{name}.tinylora_P"] = factors.P_URR
            tensors[f"{_V}{groups[name]}"] = injected.acting_v[injected.groups[name]]
        tensors = {key: tensor.cpu().contiguous().clone() for key, tensor in tensors.items()}
        config = {
            **peft_base(stored, base_model),
            "peft_type": "TINYLORA",
            "r": injected.config.r,
            "u": injected.config.u,
            "weight_tying": 1 - num_groups / len(order),
            "save_projection": True,
            "projection_seed": injected.config.seed,  # required by PEFT; P is read from the file
            "tinylora_dropout": 0.0,
            "init_weights": True,
            "target_modules": list(injected.config.target_modules),
        }
    return write_peft(out, tensors, config)


def import_peft_tinylora(
    directory: str | Path, model: nn.Module, config: TinyLoraConfig | None = None
) -> Adapter:
    """Wraps `model` with an adapter of ours that makes the same update as the PEFT one.

    Args:
        config: None takes one that can hold any update of rank r: r*r numbers per module, P the
            basis, untied. With the configuration that an export of ours came from, v comes back.

    Raises:
        ValueError: the files are not a PEFT TinyLoRA with P of this model's linears; or no v of
            `config` makes the update (the message states what is left). `model` is then unchanged.
    """
    directory = Path(directory)
    stated, tensors = _read(directory)
    order = [key.removeprefix(_PREFIX) for key in tensors if key.endswith(".tinylora_A")]
    order = _peft_order(model, {name.removesuffix(".tinylora_A") for name in order})
    if config is None:
        types = {name.rpartition(".")[2] for name in order}
        known = [type_ for type_ in TARGET_MODULES if type_ in types]
        config = TinyLoraConfig(
            r=stated["r"],
            u=stated["r"] ** 2,
            n_tie=1,
            projection="basis",
            target_modules=(*known, *sorted(types - set(known))),
        )
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    adapter = inject(model, config)
    try:
        ours = {target.name for target in adapter.targets}
        if ours != set(order):
            raise ArtifactError(
                f"{directory}: adapts {len(order)} modules, target_modules="
                f"{list(config.target_modules)} of this model are {len(ours)}; only whole types of "
                "linears in all blocks can be taken over"
            )
        deltas = _deltas(directory, order, tensors, stated)
        _solve(adapter, deltas, directory)
    except BaseException:
        adapter.remove()
        for parameter, was_required in required:
            parameter.requires_grad_(was_required)
        raise
    return adapter


def _peft_order(model: nn.Module, names: set[str]) -> list[str]:
    """Returns `names` as PEFT counts them: in the order of `named_modules`."""
    order = [name for name, _ in model.named_modules() if name in names]
    if len(order) != len(names):
        raise ValueError(
            f"{sorted(names - set(order))[0]}: {type(model).__name__} has no such linear; give the "
            "model the adapter was made for"
        )
    return order


def _peft_groups(num_modules: int, weight_tying: float) -> list[int]:
    """Returns the group of each module, in PEFT's order. Source: TinyLoraModel of peft 0.21.2."""
    num_groups = max(1, round(num_modules * (1 - weight_tying)))
    group_size = max(1, num_modules // num_groups)
    return [min(at // group_size, num_groups - 1) for at in range(num_modules)]


def _check_tying(order: list[str], groups: dict[str, int], config: TinyLoraConfig) -> None:
    num_groups = len(set(groups.values()))
    theirs = _peft_groups(len(order), 1 - num_groups / len(order))
    for name, group in zip(order, theirs, strict=True):
        if groups[name] != group:
            raise ValueError(
                f"tie_mode={config.tie_mode}, n_tie={config.n_tie}: {name} is in group "
                f"{groups[name]} of {num_groups}, PEFT's weight_tying can only put it in {group}; "
                "use untie=True (the same update, one v per module)"
            )


def _read(directory: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    text = read_bounded(directory / PEFT_CONFIG, MANIFEST_LIMIT_BYTES)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{directory / PEFT_CONFIG}: is not JSON") from error
    if not isinstance(config, dict) or config.get("peft_type") != "TINYLORA":
        raise ArtifactError(f"{directory / PEFT_CONFIG}: peft_type is not TINYLORA")
    for key, neutral in {"bias": "none", "modules_to_save": None, "fan_in_fan_out": False}.items():
        if config.get(key, neutral) != neutral:
            raise ArtifactError(
                f"{directory}: {key}={config[key]!r}: TinyLoRA here has no such part"
            )
    if type(config.get("r")) is not int or not 1 <= config["r"] <= 1024:
        raise ArtifactError(f"{directory}: r={config.get('r')!r:.40}: use a rank of 1 to 1024")
    if not isinstance(config.get("weight_tying"), (int, float)):
        raise ArtifactError(
            f"{directory}: weight_tying={config.get('weight_tying')!r:.40}: no number"
        )
    try:
        tensors = load(read_bounded(directory / PEFT_WEIGHTS, WEIGHTS_LIMIT_BYTES))
    except SafetensorError as error:
        raise ArtifactError(f"{directory / PEFT_WEIGHTS}: {error}") from error
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ArtifactError(f"{directory}: {key} holds a value that is not finite; refused")
    if not any(key.endswith(".tinylora_P") for key in tensors):
        raise ArtifactError(
            f"{directory}: saved with save_projection=false, so it holds no P; save it from PEFT "
            "with save_projection=True"
        )
    return config, tensors


def _deltas(
    where: Path, order: list[str], tensors: dict[str, torch.Tensor], stated: dict[str, Any]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Returns {module: (B R, A)} in fp64: the update of PEFT's adapter, factored."""
    deltas = {}
    try:
        for name, group in zip(
            order, _peft_groups(len(order), stated["weight_tying"]), strict=True
        ):
            A_RI, B_OR, P_URR = (
                tensors[f"{_PREFIX}{name}.tinylora_{part}"].double() for part in "ABP"
            )
            R_RR = torch.tensordot(tensors[f"{_V}{group}"].double(), P_URR, dims=1)
            deltas[name] = (B_OR @ R_RR, A_RI)
    except (KeyError, RuntimeError) as error:
        raise ArtifactError(f"{where}: not the tensors of a PEFT TinyLoRA: {error}") from error
    return deltas


def _solve(
    adapter: Adapter, deltas: dict[str, tuple[torch.Tensor, torch.Tensor]], where: Path
) -> None:
    """Sets v to the least-squares solution; ArtifactError if it leaves more than `TOLERANCE`."""
    rows: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for name, (B_OR, A_RI) in deltas.items():
        factors = adapter.bank[name]
        left_OR, right_RI = factors.left_OR.cpu().double(), factors.right_RI.cpu().double()
        if (len(B_OR), A_RI.shape[1]) != (len(left_OR), right_RI.shape[1]):
            raise ArtifactError(f"{where}: {name} has another shape in this model")
        R_RR = torch.linalg.pinv(left_OR) @ B_OR @ A_RI @ torch.linalg.pinv(right_RI)
        basis = factors.P_URR.cpu().double().flatten(1).T  # (R*R, U)
        rows.setdefault(adapter.groups[name], []).append((basis, R_RR.flatten()))
    for group, parts in rows.items():
        basis = torch.cat([part for part, _ in parts])
        wanted = torch.cat([part for _, part in parts])
        v_U = torch.linalg.lstsq(basis, wanted[:, None], driver="gelsd").solution[:, 0]
        adapter.v.data[group] = v_U.to(adapter.v)
    ours = adapter.lora_factors()
    left_over = total = 0.0
    for name, (B_OR, A_RI) in deltas.items():
        A, B = (factor.cpu().double() for factor in ours[name])
        both = torch.cat([B, -B_OR], dim=1), torch.cat([A, A_RI], dim=0)
        left_over += _norm(*both) ** 2
        total += _norm(B_OR, A_RI) ** 2
    if not left_over <= TOLERANCE**2 * total:
        raise ArtifactError(
            f"{where}: {(left_over / total) ** 0.5:.1e} of the update has no v of this "
            "configuration on this base; use the base it was trained on, and config=None"
        )


def _norm(B_OR: torch.Tensor, A_RI: torch.Tensor) -> float:
    """Returns the Frobenius norm |B A| without the (O, I) product, to 1e-8 of |B| |A|."""
    return float(torch.trace((B_OR.T @ B_OR) @ (A_RI @ A_RI.T)).clamp_min(0).sqrt())
