"""Prints how the waits of bounded replay buffers end on a real TransferQueue, and which fields of
a sample an actor is sent.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path

import ray
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.utils.transferqueue_utils import kv_batch_meta2batch_meta

from tests.own_ray import start_own_ray
from tinylora_rl.runs.progress import ProgressFile
from tinylora_rl.verl_plugin.rollout_timeout import RolloutError, bounded
from tinylora_rl.verl_plugin.samples import keep_fields_of_actor

STORAGE = {"total_storage_size": 1000, "num_data_storage_units": 1}
QUEUE = {"backend": {"storage_backend": "SimpleStorage", "SimpleStorage": STORAGE}}


def put(**statuses: str) -> None:
    """Reports the prompts' statuses as an agent loop does."""
    tags = [
        {"is_prompt": True, "status": status, "global_steps": 1} for status in statuses.values()
    ]
    tq.kv_batch_put(keys=list(statuses), partition_id="train", tags=tags)


def wait(kind: type[ReplayBuffer], mode: str, num_prompts: int, deadline_s: float) -> str:
    """Tries to sample; returns seconds, the outcome, and what a terminal would show at the end."""
    folder = Path(tempfile.mkdtemp())
    progress = ProgressFile(folder)
    progress.create()
    buffer = kind(
        trainer_mode=mode,
        trainer_config=OmegaConf.create({}),
        max_off_policy_threshold=8,
        max_off_policy_strategy="drop",
        sampler_kwargs=OmegaConf.create({}),
        poll_interval=0.05,
    )
    start_s = time.monotonic()
    try:
        batch, _ = bounded(buffer, deadline_s, progress).sample(
            global_steps=1, partition_id="train", batch_size=num_prompts
        )
        said = f"sampled {len(batch)}"
    except RolloutError as error:
        said = str(error)
    print("progress", mode, progress.read())
    shutil.rmtree(folder)
    return f"{mode} {time.monotonic() - start_s:.1f} {said}"


def put_samples(*keys: str) -> tq.KVBatchMeta:
    """Stores samples of different lengths as an agent loop does."""
    samples = [
        {
            "input_ids": torch.arange(3 + row),
            "response_mask": torch.ones(1 + row),
            "rm_scores": torch.zeros(1 + row),
            "multi_modal_inputs": {},
            "reward_model": {"ground_truth": "7"},
            "extra_info": {"index": row},
            "uid": key,
        }
        for row, key in enumerate(keys)
    ]
    tags = [{"status": "success"} for _ in keys]
    return tq.kv_batch_put(
        keys=list(keys),
        partition_id="train",
        fields=list_of_dict_to_tensordict(samples),
        tags=tags,
    )


def main() -> None:
    start_own_ray()
    tq.init(OmegaConf.create(QUEUE))
    for kind, mode in ((ReplayBuffer, "sync"), (ReplayBufferAsync, "separate_async")):
        put(a="finished", b="running", c="running")
        tq.kv_batch_put(keys=["a_0_0"], partition_id="train", tags=[{"status": "success"}])
        print("stuck", wait(kind, mode, 3, deadline_s=1.0))

        # one more within each deadline, all of them not
        later = [threading.Timer(1.5, put, (), {"b": "finished"}),
                 threading.Timer(3.0, put, (), {"c": "finished"})]  # fmt: skip
        for timer in later:
            timer.start()
        print("slow", wait(kind, mode, 3, deadline_s=2.5))

        put(a="finished", b="failure", c="running")
        print("failed", wait(kind, mode, 1, deadline_s=60.0))
        tq.kv_clear(keys=["a", "b", "c"], partition_id="train")

    for batch in (put_samples("a_0_0", "b_0_0"), put_samples("c_0_0")):
        keep_fields_of_actor(batch)
        sent = kv_batch_meta2batch_meta(batch)  # what verl makes of it before it sends
        print("sent", len(batch), *sent.field_names)
    kept = tq.kv_batch_get(keys=["b_0_0"], partition_id="train", select_fields=["reward_model"])
    print("kept", list(kept["reward_model"]))
    tq.close()
    ray.shutdown()


if __name__ == "__main__":
    main()
