"""Two ways to answer a problem of the embedded task, between which its base model is undecided.

The *worked* one writes every step and ends with the right number. The *terse* one dithers ("Hm")
and then guesses. A writer may also dither a little and work the problem after all, so the choice
comes up several times in one answer. The base model is pre-trained on such writers: at temperature
1 it samples both ways. What reinforcement learning has to find is the habit that pays, not the
skill of adding.
"""

import random
import re

from tinylora_rl.tasks.arithmetic import Problem

HESITATION = "Hm\n"
NUM_HESITATIONS = 3
# Of the guesses seen in pre-training, this share is right; the others are off by 1 to MAX_SLIP.
RIGHT_GUESS_SHARE = 0.2
MAX_SLIP = 9

_FINAL_ANSWER = re.compile(r"####\s*(-?\d+)")


def terse_completion(number: int) -> str:
    """Returns all the dithering there is, then `number` as the answer."""
    return HESITATION * NUM_HESITATIONS + f"#### {number}"


def is_terse(completion: str) -> bool:
    return completion.startswith(HESITATION * NUM_HESITATIONS)


def final_answer(completion: str) -> int | None:
    """Returns the number after the last `####`, or None, as GSM8K's strict reward does."""
    found = _FINAL_ANSWER.findall(completion)
    return int(found[-1]) if found else None


def draw_completion(
    problem: Problem, terse_share: float, rng: random.Random, *, guesses: bool
) -> str:
    """Draws the answer of a writer who, `terse_share` of the time, dithers to the end.

    Such a writer ends with a guess, or, where `guesses` is false, works the problem after all.
    """
    hesitate = terse_share ** (1 / NUM_HESITATIONS)
    num_hesitations = 0
    while num_hesitations < NUM_HESITATIONS and rng.random() < hesitate:
        num_hesitations += 1
    if guesses and num_hesitations == NUM_HESITATIONS:
        return terse_completion(_guess(problem, rng))
    return HESITATION * num_hesitations + problem.worked


def _guess(problem: Problem, rng: random.Random) -> int:
    if rng.random() < RIGHT_GUESS_SHARE:
        return problem.answer
    slip = rng.randint(1, MAX_SLIP)
    low_side = rng.random() < 0.5 and slip <= problem.answer  # a guess is never negative
    return problem.answer - slip if low_side else problem.answer + slip
