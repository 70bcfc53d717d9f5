"""FSDP1, which verl cannot start on a CPU (it synchronises module states) but torch itself can run:
two ranks with v outside the flat parameters end at the v of one process."""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch

from tests.unit.adapter.models import small_model, token_ids
from tinylora_rl.adapter import TinyLoraConfig, inject

REPOSITORY = Path(__file__).parents[3]
CONFIG = TinyLoraConfig(u=2, n_tie=1)  # untied: a factor that arrives permuted would show
NUM_ROWS = 4


def train(rank: int, world_size: int) -> torch.Tensor:
    """v after three updates; the rows are shared out among the ranks."""
    import torch.distributed as dist
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    model = small_model()
    adapter = inject(model, CONFIG)
    if world_size > 1:
        block = type(model.model.layers[0])
        model = FullyShardedDataParallel(
            model,
            device_id=torch.device("cpu"),
            auto_wrap_policy=partial(transformer_auto_wrap_policy, transformer_layer_cls={block}),
        )
    optimizer = torch.optim.Adam([adapter.v], lr=0.01, weight_decay=0.0)
    for step in range(3):
        tokens = token_ids(NUM_ROWS, 7 + step)[rank::world_size]
        optimizer.zero_grad()
        model(tokens).logits.square().mean().backward()
        if world_size > 1:
            dist.all_reduce(adapter.v.grad)
            adapter.v.grad /= world_size
        optimizer.step()
    return adapter.v.detach()


def main() -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("cpu:gloo")
    torch.save(train(dist.get_rank(), dist.get_world_size()), sys.argv[1])
    dist.barrier()
    dist.destroy_process_group()


def test_two_fsdp1_ranks_end_at_the_v_of_one_process(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.unit.adapter.test_fsdp1", str(tmp_path / f"{rank}.pt")],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output[-4000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = train(0, 1)
    assert float(alone.abs().max()) > 0.01
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, rtol=0, atol=2e-6)


if __name__ == "__main__":
    main()
