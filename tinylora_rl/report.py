"""Writes tables, figures and pages from runs: `python -m tinylora_rl.report RUNS...`.

RUNS are run directories, their parents at any depth, evaluation directories, or
`wandb:ENTITY/PROJECT[/RUN]`. Prints the Markdown table, and writes to --out:

| file | what |
|---|---|
| `report.md`, `results.csv`, `results.tex` | one row a size, at its best learning rate |
| `figures/*.png`, `figures/*.svg` | the paper's figures from these runs |
| `page.html`, `run_pages/*.html` | the dashboard for a browser, with a page a run |

Exit codes: 0 done; 2 wrong runs or arguments, in one line; 3 the machine, the network or a
missing optional package.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tinylora_rl.errors import EXIT_ENVIRONMENT, ConfigError, MachineError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `argv` (None: the process's own), and returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _report(arguments)
    except (ConfigError, MachineError) as error:
        _complain(error)
        return error.exit_code
    except (OSError, ImportError) as error:
        _complain(error)
        return EXIT_ENVIRONMENT


def _report(arguments: argparse.Namespace) -> int:
    from tinylora_rl.atomic import write_text
    from tinylora_rl.studies.benchmarks import benchmark_tables
    from tinylora_rl.studies.discover import find_records
    from tinylora_rl.studies.figures import write_figures
    from tinylora_rl.studies.pages import write_pages
    from tinylora_rl.studies.study import build_study
    from tinylora_rl.studies.tables import report_markdown, to_csv, to_latex

    found = find_records(arguments.runs)
    study = build_study(
        found.runs,
        found.evaluations,
        held_out=arguments.held_out,
        select_on=arguments.select_on,
        unfinished=arguments.unfinished,
    )
    sections = [
        "\n".join(section) + "\n" for section in benchmark_tables(found.evaluations, found.runs)
    ]
    report = "\n".join([report_markdown(study), *sections] if study.runs else sections)
    out = Path(arguments.out)
    write_text(out / "report.md", report)
    print(report)
    written = [out / "report.md"]
    if study.results:
        write_text(out / "results.csv", to_csv(study))
        write_text(out / "results.tex", to_latex(study))
        written += [out / "results.csv", out / "results.tex"]
        written += write_figures(study, out / "figures")
    if study.runs:
        written.append(write_pages(study, out))
    for path in written:
        print(path)
    if arguments.dashboard:
        print(_dashboard(arguments, study.runs))
    return 0


def _dashboard(arguments: argparse.Namespace, runs: Sequence) -> str:
    from tinylora_rl.studies.records import setting
    from tinylora_rl.studies.wandb_server import save_dashboard

    stated = [setting(run.config, "trainer.project_name") for run in runs]
    project = arguments.project or next((name for name in stated if name), None)
    if project is None:
        raise ConfigError("--dashboard: no run names its W&B project; give --project")
    return save_dashboard(arguments.entity, project)


def _seeds(value: str) -> list[str]:
    seeds = [seed.strip() for seed in value.split(",") if seed.strip()]
    if not seeds:
        raise argparse.ArgumentTypeError("give seeds like 0 or 0,1")
    return seeds


def _complain(error: Exception) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tinylora_rl.report",
        description="Tables, figures and pages from runs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder, parent of some, or wandb:ENTITY/PROJECT"
    )
    parser.add_argument("--out", default="report", metavar="DIR", help="default: report")
    parser.add_argument(
        "--held-out", metavar="NAME", help="accuracy that counts: greedy (default), sampled, ..."
    )
    parser.add_argument(
        "--select-on",
        type=_seeds,
        metavar="SEEDS",
        help="choose learning rates on these seeds (0 or 0,1), report the others",
    )
    parser.add_argument(
        "--unfinished", action="store_true", help="count runs that did not finish, too"
    )
    parser.add_argument(
        "--dashboard", action="store_true", help="also write the W&B workspace of these runs"
    )
    parser.add_argument("--entity", help="of W&B; default: yours")
    parser.add_argument("--project", help="of W&B; default: the runs' trainer.project_name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
