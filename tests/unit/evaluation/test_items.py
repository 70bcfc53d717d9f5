import dataclasses
import json

from tinylora_rl.evaluation.plan import Key
from tinylora_rl.evaluation.runner import ItemsFile, read_items


def item(index: int, response: str = "") -> dict:
    key = Key("base", "gsm8k", index, True, 0)
    return {**dataclasses.asdict(key), "response": response}


def test_what_is_appended_is_done(tmp_path):
    path = tmp_path / "items.jsonl"
    with ItemsFile(path) as items:
        assert items.done() == set()
        items.append([item(0), item(1)])
    with ItemsFile(path) as items:
        assert items.done() == {Key("base", "gsm8k", i, True, 0) for i in (0, 1)}
        items.append([item(2)])
    assert [found["index"] for found in read_items(path)] == [0, 1, 2]


def test_a_torn_last_line_is_cut_off_wherever_it_tears(tmp_path):
    path = tmp_path / "items.jsonl"
    whole = json.dumps(item(0)) + "\n"
    torn = json.dumps(item(1, "x" * 200_000))  # longer than a block of the backward search
    for length in (1, 20, len(torn)):
        path.write_text(whole + torn[:length])
        with ItemsFile(path) as items:
            assert items.done() == {Key("base", "gsm8k", 0, True, 0)}
            items.append([item(2)])
        assert [found["index"] for found in read_items(path)] == [0, 2]


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"policy": "ba')
    with ItemsFile(path) as items:
        assert items.done() == set()


def test_text_that_is_no_unicode_survives(tmp_path):
    path = tmp_path / "items.jsonl"
    with ItemsFile(path) as items:
        items.append([item(0, "lone \ud800 surrogate\u2028\x00")])
    assert next(read_items(path))["response"] == "lone \ud800 surrogate\u2028\x00"
