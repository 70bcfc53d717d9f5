"""Sends the actor only the tensor fields of each sample.

verl sends every field of a sample, some thirty, twice a step. Those that are no tensors (the row's
prompt, its ground truth, its extra_info) are for the judge; they are fetched, selected and split
sample by sample, which took a fifth of the time of the embedded model's log-probs.
"""

from __future__ import annotations

import transfer_queue as tq
from transfer_queue import KVBatchMeta

OBJECTS_READ = ("multi_modal_inputs",)  # a dictionary per sample, which verl's engines read


def keep_fields_of_actor(batch: KVBatchMeta) -> None:
    """Limits `batch` to its samples' tensors; the other fields stay in TransferQueue."""
    stored = tq.get_client().kv_retrieve_meta(keys=batch.keys, partition_id=batch.partition_id)
    batch.fields = [
        name
        for name, schema in stored.field_schema.items()
        if name in OBJECTS_READ or not schema["is_non_tensor"]
    ]
