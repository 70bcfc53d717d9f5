"""What is graded is written, also when generation is interrupted."""

import pytest

from tests.unit.evaluation.test_scores import plan
from tinylora_rl.evaluation.engine import Response
from tinylora_rl.evaluation.plan import BASE, Policy, Question, Sampling
from tinylora_rl.evaluation.runner import ItemsFile, read_items, run_plan
from tinylora_rl.rewards import Gold, GradingPool


class Tokenizer:
    def decode(self, token_ids, skip_special_tokens=False):
        assert skip_special_tokens
        return "#### " + "".join(map(str, token_ids))


class InterruptedEngine:
    """Answers as an engine does, and is interrupted as by a signal."""

    def __init__(self, num_answers):
        self.num_answers = num_answers

    def answer(self, policy, requests, params):
        for number, (key, question) in enumerate(requests):
            if number == self.num_answers:
                raise KeyboardInterrupt
            yield Response(key=key, question=question, token_ids=(key.index,), truncated=False)


def questions(count):
    return [
        Question(
            benchmark="gsm8k",
            index=index,
            text="",
            gold=Gold(answer=str(index)),
            prompt_token_ids=None if index == 1 else (1,),
        )
        for index in range(count)
    ]


def test_a_stop_keeps_what_was_answered_and_a_second_start_adds_the_rest(tmp_path):
    path = tmp_path / "items.jsonl"
    todo = plan(policies=(Policy(name=BASE),), sampling=Sampling(), judges=("strict",))
    with GradingPool() as pool:

        def run(engine):
            with ItemsFile(path) as items:
                run_plan(
                    todo,
                    questions(6),
                    items,
                    start_engine=lambda: engine,
                    tokenizer=Tokenizer(),
                    pool=pool,
                    num_graders=1,
                    progress=lambda count: None,
                )

        with pytest.raises(KeyboardInterrupt):
            run(InterruptedEngine(3))
        first = path.read_bytes()
        assert first.count(b"\n") >= 2  # the question without room, and what was graded by then
        run(InterruptedEngine(100))
    assert path.read_bytes().startswith(first)
    items = sorted(read_items(path), key=lambda item: item["index"])
    assert [item["index"] for item in items] == list(range(6))
    verdicts = [item["judged"]["strict"]["verdict"] for item in items]
    assert verdicts == ["right", "no_answer", "right", "right", "right", "right"]
    assert items[1]["overlong"]
