"""A base model is one folder that brings no code; its parts are found once."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from tinylora_rl.base_model import BaseModel, local_folder
from tinylora_rl.base_model.dims import num_stored_parameters
from tinylora_rl.base_model.folder import load_model
from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.arithmetic import base_model_dir


@pytest.fixture
def model(tmp_path) -> Path:
    return Path(shutil.copytree(base_model_dir(), tmp_path / "model"))


def edit(file: Path, **values: object) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_a_model_that_brings_code_is_refused(model, name):
    assert BaseModel(str(model)).folder == model.resolve()
    edit(model / name, auto_map={"AutoTokenizer": ["elsewhere/repository--code.Tokenizer", None]})
    with pytest.raises(ConfigError, match=rf"{name} names code of its own \(auto_map\), which is"):
        BaseModel(str(model)).tokenizer  # noqa: B018  # read on first use


def test_a_configuration_that_is_no_json_is_refused_in_one_line(model):
    (model / "tokenizer_config.json").write_text("{" * 100_000)
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json is not JSON") as caught:
        BaseModel(str(model)).folder  # noqa: B018
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named_by_its_key():
    with pytest.raises(ConfigError, match=r"base_model\.path=/nowhere: no such folder"):
        BaseModel("/nowhere").folder  # noqa: B018


def test_the_setting_that_names_the_model_is_named_by_its_errors(model):
    for file in model.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"^--base=.*: no tokenizer files; copy tokenizer\.json"):
        BaseModel(str(model), key="--base").tokenizer  # noqa: B018


def test_every_part_is_found_once_and_travels(model):
    base = BaseModel(str(model))
    assert (base.commit, str(base)) == (None, str(model))
    assert base.folder is base.folder
    assert base.weights is base.weights
    assert base.context == base.dims.context
    assert pickle.loads(pickle.dumps(base)).folder == base.folder


def test_a_prompt_is_asked_by_the_models_own_template(model):
    messages = [{"role": "user", "content": "1 + 1 ="}]
    base = BaseModel(str(model))
    asked = base.ask(messages)
    assert asked == base.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    edit(
        model / "tokenizer_config.json",
        chat_template="{{ greeting }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
    )
    (model / "chat_template.jinja").unlink(missing_ok=True)
    greeted = BaseModel(str(model), chat_template_kwargs={"greeting": "2 + 2"})
    assert greeted.ask(messages) == greeted.tokenizer.encode("2 + 21 + 1 =")


def test_parameters_are_counted_from_the_headers_of_the_files(model, tmp_path):
    loaded = load_model(model, dtype=torch.float32)
    numbers = sum(parameter.numel() for parameter in loaded.parameters())
    # the output layer, where it is the embedding, is stored once
    assert num_stored_parameters(model) == numbers
    assert num_stored_parameters(tmp_path) == 0
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match=r"model\.safetensors: no safetensors file"):
        num_stored_parameters(tmp_path)


def test_nothing_is_downloaded_to_find_out_what_is_here(model):
    assert local_folder(model) == model
    assert local_folder("/nowhere") == Path("/nowhere")
    assert local_folder("somebody/tiny") is None
    assert local_folder("no repository id") is None
