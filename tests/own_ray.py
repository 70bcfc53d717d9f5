"""A Ray of its own for a test's subprocess: one node, small, silent."""

import ray


def start_own_ray() -> None:
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
    )
