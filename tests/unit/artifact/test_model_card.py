"""The model card: front matter the Hub reads, and nothing a stranger can break out of."""

import yaml

from tests.unit.artifact.conftest import PROVENANCE, save_adapter
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.artifact.manifest import read_numbers
from tinylora_rl.artifact.model_card import is_hub_id, render_card


def card_of(directory, **options) -> tuple[dict, str]:
    text = render_card(*read_numbers(directory), repo_id="me/tiny", **options)
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_card_says_what_it_is_and_how_to_load_it(tmp_path):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    front, body = card_of(directory)
    assert front["base_model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert front["base_model_relation"] == "adapter"
    assert front["library_name"] == "tinylora-rl"
    assert "tinylora" in front["tags"]
    manifest = artifact.read_manifest(directory)
    for part in (
        "# tiny\n",
        "13 trained numbers, 52 bytes",
        'from_pretrained("Qwen/Qwen2.5-7B-Instruct", dtype=torch.float32, revision="a09a354',
        'artifact.load(snapshot_download("me/tiny"), model)',
        "| gsm8k/strict | 0.907 |",
        PROVENANCE["prompt_template"],
        manifest["digest"],
        manifest["identity"]["base_digest"],
        manifest["identity"]["projection_digest"],
    ):
        assert part in body, part


def test_a_folder_is_no_base_model_of_the_hub(tmp_path):
    assert is_hub_id("Qwen/Qwen2.5-7B-Instruct")
    assert not any(
        map(is_hub_id, [None, "model", "/data/model", "./model", "../m", "a/b/c", "a b/c"])
    )
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    front, _ = card_of(directory, base_model="/data/model")
    assert "base_model" not in front
    assert card_of(directory, base_model="a/b")[0]["base_model"] == "a/b"


def test_what_a_stranger_states_stays_in_its_place(tmp_path):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    model_name = 'a/b"\n---\nlicense: mit\n---\n# Owned'
    provenance = {
        "base_model": model_name,
        "prompt_template": "```\n# Owned\n````\n",
        "run": "x`|\n# Owned",
        "metrics": {"a|b\n# Owned": 1.0},
    }
    from tests.unit.artifact.conftest import arithmetic_model

    with artifact.adapted(directory, arithmetic_model()) as adapter:
        artifact.save(adapter, tmp_path / "odd", provenance)
    front, body = card_of(tmp_path / "odd")
    assert "license" not in front
    assert "base_model" not in front
    outside, fenced, rest = body.split("`````")
    assert "# Owned" in fenced
    assert "\n# Owned" not in outside + rest
    rows = [line for line in (outside + rest).splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)
