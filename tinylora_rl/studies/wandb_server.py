"""Reads runs from a Weights & Biases server, and saves the dashboard there as a workspace.

The workspace needs wandb-workspaces, an optional extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.studies.dashboard import SECTIONS, Panel
from tinylora_rl.studies.records import RunRecord, State, logged_parameters, state_by_steps
from tinylora_rl.studies.size import size_of

PREFIX = "wandb:"
STATES: dict[str, State] = {
    "finished": "finished",
    "running": "running",
    "killed": "stopped",
    "crashed": "failed",
    "failed": "failed",
}
NAME = "TinyLoRA"
COLUMNS = 3


def parse_address(address: str) -> tuple[str, str, str | None]:
    """Returns (entity, project, run or None) of `wandb:ENTITY/PROJECT[/RUN]`.

    Raises:
        ConfigError: it is not of that form.
    """
    parts = address.removeprefix(PREFIX).split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ConfigError(f"run={address}: give {PREFIX}ENTITY/PROJECT or .../RUN")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def read_server(address: str) -> Iterator[RunRecord]:
    """Yields the runs at `address`, with their whole, unsampled history.

    Raises:
        ConfigError: no such address, or no login.
        MachineError: no network, or the server refuses.
    """
    entity, project, run_id = parse_address(address)
    with _one_line_errors(f"run={address}", "see `wandb login`"):
        import wandb

        api = wandb.Api()
        place = f"{entity}/{project}"
        for run in [api.run(f"{place}/{run_id}")] if run_id else api.runs(place):
            yield _record(run)


def build_workspace(entity: str, project: str) -> Any:
    """Builds the `wandb_workspaces.workspaces.Workspace`, without network.

    Raises:
        MachineError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise MachineError(
            f"--dashboard: {error}; pip install 'tinylora-rl[dashboard]', or open page.html"
        ) from error
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            workspaces.Section(
                name=title,
                panels=[_line_plot(panel) for panel in panels],
                is_open=True,
                layout_settings=workspaces.SectionLayoutSettings(
                    columns=COLUMNS, rows=-(-len(panels) // COLUMNS)
                ),
            )
            for title, panels in SECTIONS.items()
        ],
        auto_generate_panels=False,
    )


def save_dashboard(entity: str | None, project: str) -> str:
    """Saves the workspace on the server, for `entity` or the one logged in.

    Returns:
        Its address.

    Raises:
        ConfigError: no login.
        MachineError: the server does not answer or refuses, or wandb-workspaces is missing.
    """
    with _one_line_errors("--dashboard", "page.html shows the same"):
        import wandb

        entity = entity or str(wandb.Api().default_entity)
        return str(build_workspace(entity, project).save().url)


def _record(run: Any) -> RunRecord:
    rows = [{**row, "step": int(row["_step"])} for row in run.scan_history()]
    config = {key: value for key, value in run.config.items() if not key.startswith("_")}
    return RunRecord(
        name=run.name,
        source=run.url,
        config=config,
        metrics=sorted(rows, key=lambda row: row["step"]),
        state=STATES.get(run.state) or state_by_steps(config, rows),
        size=size_of(config, logged=logged_parameters(rows)),
    )


@contextmanager
def _one_line_errors(place: str, fix: str) -> Iterator[None]:
    import wandb

    try:
        yield
    except wandb.errors.UsageError as error:
        raise ConfigError(f"{place}: nobody is logged in at W&B; run `wandb login`") from error
    except (wandb.errors.Error, OSError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise MachineError(f"{place}: {problem:.200}; {fix}") from error


def _line_plot(panel: Panel) -> Any:
    import wandb_workspaces.reports.v2 as reports

    return reports.LinePlot(
        title=panel.title,
        x="Step",
        y=list(panel.metrics),
        metric_regex=panel.pattern or None,
        title_y=panel.unit or None,
        range_y=panel.limits or (None, None),
        log_y=panel.log or None,
        line_titles=dict(panel.metrics) if len(panel.metrics) > 1 else None,
    )
