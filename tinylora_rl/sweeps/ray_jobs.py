"""Runs the points of a sweep as jobs of a running Ray cluster, which outlive this process.

All nodes see the sweep's folder under the same path, and have this package.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL, ConfigError, MachineError
from tinylora_rl.sweeps.jobs import Job, ProgressLine

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class RayJobs:
    """Runs points through `ray.job_submission`, a number of them at a time.

    Args:
        address: of the cluster's dashboard, `http://HOST:8265`.
        num_parallel: points at a time. verl fails where the cluster has not the GPUs for one.
        keep_going: further points are submitted after one that failed.
        stop_timeout_s: what the jobs have to end after a stop; Ray itself kills a job 3 s after
            the signal (RAY_JOB_STOP_WAIT_TIME_S of the cluster), and a run keeps its last step.
        runtime_env: as Ray takes it.
    """

    def __init__(
        self,
        *,
        address: str,
        num_parallel: int,
        keep_going: bool,
        stop_timeout_s: float,
        poll_s: float,
        runtime_env: DictConfig,
    ) -> None:
        if num_parallel < 1:
            raise ConfigError(f"hydra.launcher.num_parallel={num_parallel}: use at least 1")
        self._address = address
        self._num_parallel = num_parallel
        self._keep_going = keep_going
        self._stop_timeout_s = stop_timeout_s
        self._poll_s = poll_s
        self._runtime_env: Any = OmegaConf.to_container(runtime_env, resolve=True)

    def run(self, jobs: Sequence[Job], console: TextIO) -> Mapping[Path, int]:
        """Returns {directory: exit code} of the points that were run.

        On KeyboardInterrupt the submitted jobs are stopped first.
        """
        client = self._client()
        waiting = list(jobs)
        running: dict[str, tuple[Job, ProgressLine]] = {}
        codes: dict[Path, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._num_parallel:
                    job = waiting.pop(0)
                    job.directory.mkdir(parents=True, exist_ok=True)
                    line = ProgressLine(job, console)
                    line.start()
                    running[self._submit(client, job)] = job, line
                time.sleep(self._poll_s)
                for job_id, (job, line) in list(running.items()):
                    info = client.get_job_info(job_id)
                    if info.status not in ENDED:
                        line.update()
                        continue
                    del running[job_id]
                    codes[job.directory] = _exit_code(info)
                    with job.console.open("a", encoding="utf-8") as kept:
                        kept.write(client.get_job_logs(job_id))
                    line.end(f"{info.status.value.lower()} ({job_id})")
                    if codes[job.directory] not in (0, EXIT_SIGNAL) and not self._keep_going:
                        waiting.clear()
        except KeyboardInterrupt:
            self._stop(client, running)
            raise
        return codes

    def _client(self) -> Any:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        try:
            return JobSubmissionClient(self._address)
        except AuthenticationError as error:
            raise MachineError(
                f"hydra.launcher.address={self._address}: the cluster wants a token; set "
                "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's"
            ) from error
        except ConnectionError as error:
            raise MachineError(
                f"hydra.launcher.address={self._address}: no Ray cluster answers; give the address "
                "of its dashboard, http://HOST:8265"
            ) from error

    def _submit(self, client: Any, job: Job) -> str:
        return str(
            client.submit_job(
                entrypoint=shlex.join(["python", *job.arguments]),
                # a second start of the same point is a second job
                submission_id=f"{job.directory.name}-{uuid4().hex[:8]}",
                runtime_env=self._runtime_env,
                metadata={"directory": str(job.directory)},
            )
        )

    def _stop(self, client: Any, running: Mapping[str, tuple[Job, ProgressLine]]) -> None:
        for job_id, (_, line) in running.items():
            line.end("stopping")
            client.stop_job(job_id)
        deadline_s = time.monotonic() + self._stop_timeout_s
        while time.monotonic() < deadline_s and any(
            client.get_job_info(job_id).status not in ENDED for job_id in running
        ):
            time.sleep(self._poll_s)


def _exit_code(info: Any) -> int:
    """Returns the code of the job's driver; a job that Ray could not start, or lost, has failed."""
    if info.status == "SUCCEEDED":
        return 0
    if info.status == "STOPPED":
        return EXIT_SIGNAL
    return info.driver_exit_code or EXIT_FAILED
