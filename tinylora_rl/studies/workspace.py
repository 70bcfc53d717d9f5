"""The dashboard as a Weights & Biases workspace. Needs wandb-workspaces, an optional extra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.studies.dashboard import SECTIONS, Panel, Section

NAME = "TinyLoRA"
COLUMNS = 3


def build_workspace(
    entity: str, project: str, *, name: str = NAME, sections: Sequence[Section] = SECTIONS
) -> Any:
    """The `wandb_workspaces.workspaces.Workspace`; no network is used.

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
        name=name,
        sections=[
            workspaces.Section(
                name=section.title,
                panels=[_line_plot(panel) for panel in section.panels],
                is_open=True,
                layout_settings=workspaces.SectionLayoutSettings(
                    columns=COLUMNS, rows=-(-len(section.panels) // COLUMNS)
                ),
            )
            for section in sections
        ],
        auto_generate_panels=False,
    )


def default_entity() -> str:
    """Of whoever is logged in at W&B.

    Raises:
        ConfigError: nobody is.
        MachineError: the server does not answer.
    """
    import wandb

    with _one_line_errors():
        return str(wandb.Api().default_entity)


def save_workspace(workspace: Any) -> str:
    """`workspace` is on the server.

    Returns:
        Its address.

    Raises:
        ConfigError: nobody is logged in.
        MachineError: the server does not answer or refuses.
    """
    with _one_line_errors():
        return str(workspace.save().url)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    import wandb

    try:
        yield
    except wandb.errors.UsageError as error:
        raise ConfigError("--dashboard: nobody is logged in at W&B; run `wandb login`") from error
    except (wandb.errors.Error, OSError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise MachineError(f"--dashboard: {problem:.200}; page.html shows the same") from error


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
