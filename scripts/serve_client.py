"""A client of `python -m tinylora_rl.serve`: one question to the base and to every adapter.

    python scripts/serve_client.py "What is 12 + 30?"
    python scripts/serve_client.py --url http://127.0.0.1:8000 --model my_run "What is 12 + 30?"

The standard library alone; OpenAI's client works as well (`OpenAI(base_url=f"{url}/v1")`), with an
adapter's name as `model`. A server that was given VLLM_API_KEY gets the key from the same variable.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns the server's answer; raises RuntimeError with its reason where it refuses."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {os.environ.get('VLLM_API_KEY', 'none')}",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            content: dict[str, Any] = json.load(answer)
            return content
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url}: {error.code}: {error.read().decode()}") from error
    except urllib.error.URLError as error:
        raise RuntimeError(f"{url}: {error.reason}; is the server running?") from error


def ask(url: str, model: str, question: str, max_tokens: int) -> str:
    """Asks `model` for a greedy answer."""
    answer = call(
        f"{url}/v1/chat/completions",
        {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": max_tokens,
        },
    )
    text: str = answer["choices"][0]["message"]["content"]
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description="One question to the base and to every adapter.")
    parser.add_argument("question")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", action="append", help="instead of all; may be repeated")
    parser.add_argument("--max-tokens", type=int, default=256)
    given = parser.parse_args()
    try:
        models = given.model or [card["id"] for card in call(f"{given.url}/v1/models")["data"]]
        with ThreadPoolExecutor(16) as pool:  # one batch for the server
            answers = pool.map(
                lambda model: ask(given.url, model, given.question, given.max_tokens), models
            )
            for model, answer in zip(models, answers, strict=True):
                print(f"--- {model}\n{answer}")
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
