"""The actor is sent what it computes with, and the judge's part of a sample stays where it is."""


def test_the_actor_is_sent_tensors(real_queue):
    fields = "input_ids multi_modal_inputs response_mask rm_scores"
    assert f"sent 2 {fields}\n" in real_queue
    assert f"sent 1 {fields}\n" in real_queue


def test_what_is_not_sent_stays_stored(real_queue):
    assert "kept [{'ground_truth': '7'}]" in real_queue
