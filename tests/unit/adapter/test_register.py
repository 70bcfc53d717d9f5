"""v as a parameter of the model: any loop over model.parameters() trains it, and it alone."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from tests.unit.adapter.models import CONFIGS, small_model, token_ids
from tinylora_rl.adapter import TinyLoraConfig, inject

NAME = "tinylora.v"


def adapted(**fields):
    model = small_model()
    base = {name: weight.clone() for name, weight in model.state_dict().items()}
    return model, inject(model, TinyLoraConfig(**fields), register=True), base


def nudged(adapter) -> None:
    generator = torch.Generator().manual_seed(5)
    adapter.v.data.copy_(0.3 * torch.randn(adapter.v.shape, generator=generator))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_models_only_trainable_parameter_is_v(architecture):
    model = small_model(architecture)
    before = list(model.state_dict())
    adapter = inject(model, TinyLoraConfig(), register=True)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert list(trainable) == [NAME]
    assert trainable[NAME] is adapter.v
    assert list(model.state_dict()) == [*before, NAME]


def test_by_default_the_model_knows_nothing_of_v():
    model = small_model()
    before = list(model.state_dict())
    inject(model, TinyLoraConfig())
    assert list(model.state_dict()) == before
    assert not any(p.requires_grad for p in model.parameters())


def test_a_plain_optimiser_takes_the_steps_of_one_over_v():
    stepped = []
    for register in (False, True):
        model = small_model()
        adapter = inject(model, TinyLoraConfig(u=3, n_tie=4), register=register)
        base = {name: w.clone() for name, w in model.state_dict().items() if name != NAME}
        optimizer = torch.optim.AdamW(model.parameters() if register else [adapter.v], lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            model(token_ids(), labels=token_ids()).loss.backward()
            optimizer.step()
        stepped.append(adapter.v.detach().clone())
        for name, weight in base.items():
            assert torch.equal(model.state_dict()[name], weight), name
    assert float(stepped[1].abs().min()) > 1e-3
    assert torch.equal(stepped[0], stepped[1])


def test_a_cast_of_the_model_leaves_v_as_it_is():
    model, adapter, _ = adapted()
    nudged(adapter)
    v, before = adapter.v, adapter.v.detach().clone()
    for cast in (
        lambda: model.to(torch.bfloat16),
        lambda: model.half(),
        lambda: model.double(),
        lambda: model.to("cpu", torch.bfloat16),
    ):
        cast()
        assert adapter.v is v is model.get_parameter(NAME)
        assert v.dtype == torch.float32
        assert torch.equal(v.detach(), before)
    assert model.lm_head.weight.dtype == torch.bfloat16
    model(token_ids()).logits.float().square().mean().backward()
    assert v.grad.dtype == torch.float32


def test_a_move_of_the_model_takes_v_and_the_factors_along():
    model, adapter, _ = adapted()
    model.to("meta")  # the one other device of a CPU
    assert adapter.v is model.get_parameter(NAME)
    tensors = [
        adapter.v,
        *(t for f in adapter.bank.values() for t in (f.left_OR, f.right_RI, f.P_URR)),
    ]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_deep_copy_is_another_adapter_with_the_same_values():
    model, adapter, _ = adapted()
    nudged(adapter)
    twin = copy.deepcopy(model)
    other = twin.tinylora.adapter
    with torch.no_grad():
        assert torch.equal(twin(token_ids()).logits, model(token_ids()).logits)
        assert other.v is twin.get_parameter(NAME)
        assert other.v is not adapter.v
        before = model(token_ids()).logits
        other.v.zero_()
        with adapter.disabled():
            base = model(token_ids()).logits
        assert torch.equal(twin(token_ids()).logits, base)
        assert torch.equal(model(token_ids()).logits, before)
    assert not torch.equal(before, base)


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_brings_v_back(assign):
    model, adapter, _ = adapted()
    nudged(adapter)
    with torch.no_grad():
        true = model(token_ids()).logits
    other_model, other, _ = adapted()
    other_model.load_state_dict(model.state_dict(), assign=assign)
    assert torch.equal(other.v, adapter.v)
    assert other.v is other_model.get_parameter(NAME)
    with torch.no_grad():
        assert torch.equal(other_model(token_ids()).logits, true)


def test_remove_leaves_the_base():
    model, adapter, base = adapted()
    nudged(adapter)
    adapter.remove()
    assert list(model.state_dict()) == list(base)
    assert all(torch.equal(weight, base[name]) for name, weight in model.state_dict().items())


class Rows(Dataset):
    def __init__(self) -> None:
        self.ids_BT = token_ids(num_rows=8)

    def __len__(self) -> int:
        return len(self.ids_BT)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids_BT[index], "labels": self.ids_BT[index]}


def trainer_on(model, folder, max_steps: int) -> Trainer:
    return Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            use_cpu=True,
            max_steps=max_steps,
            per_device_train_batch_size=4,
            learning_rate=0.01,
            lr_scheduler_type="constant",
            save_steps=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Rows(),
    )


def test_hugging_faces_trainer_trains_saves_and_resumes_v(tmp_path):
    model, adapter, base = adapted()
    trainer = trainer_on(model, tmp_path, max_steps=2)
    trainer.train()
    assert trainer.get_num_trainable_parameters() == 13
    assert float(adapter.v.detach().abs().min()) > 1e-3
    for name, weight in base.items():
        assert torch.equal(model.state_dict()[name], weight), name
    saved = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert torch.equal(saved[NAME], adapter.v.detach())
    # from the first step's checkpoint the second step is the same
    resumed_model, resumed, _ = adapted()
    trainer_on(resumed_model, tmp_path, max_steps=2).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-1")
    )
    torch.testing.assert_close(resumed.v, adapter.v, rtol=0, atol=1e-6)
