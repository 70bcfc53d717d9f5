"""Runs from a W&B server: `wandb:ENTITY/PROJECT`, or `wandb:ENTITY/PROJECT/RUN` for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.studies.records import RunRecord, State, logged_parameters, state_by_steps
from tinylora_rl.studies.trained import trained_numbers

PREFIX = "wandb:"
STATES: dict[str, State] = {
    "finished": "finished",
    "running": "running",
    "killed": "stopped",
    "crashed": "failed",
    "failed": "failed",
}


def parse_address(address: str) -> tuple[str, str, str | None]:
    """(entity, project, run or None) of `wandb:ENTITY/PROJECT[/RUN]`.

    Raises:
        ConfigError: it is not of that form.
    """
    parts = address.removeprefix(PREFIX).split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ConfigError(f"run={address}: give {PREFIX}ENTITY/PROJECT or .../RUN")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def read_wandb_api(address: str) -> Iterator[RunRecord]:
    """The runs at `address`, with their whole, unsampled history.

    Raises:
        ConfigError: no such address.
        MachineError: no network, no login, or the server refuses.
    """
    import wandb

    entity, project, run_id = parse_address(address)
    try:
        api = wandb.Api()
        place = f"{entity}/{project}"
        runs = [api.run(f"{place}/{run_id}")] if run_id else api.runs(place)
        for run in runs:
            yield _record(run)
    except (wandb.errors.Error, OSError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise MachineError(f"run={address}: {problem:.200}; see `wandb login`") from error


def _record(run: Any) -> RunRecord:
    rows = [{**row, "step": int(row["_step"])} for row in run.scan_history()]
    config = {key: value for key, value in run.config.items() if not key.startswith("_")}
    trained, _ = trained_numbers(config, None, logged_parameters(rows))
    return RunRecord(
        name=run.name,
        source=run.url,
        config=config,
        metrics=sorted(rows, key=lambda row: row["step"]),
        state=STATES.get(run.state) or state_by_steps(config, rows),
        trained=trained,
    )
