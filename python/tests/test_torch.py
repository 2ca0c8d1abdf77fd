"""Models of transformers from packed directories. Needs `netweight[torch]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netweight

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from netweight.torch import load_model, save_packed  # noqa: E402


def logits(model: Any, length: int) -> Any:
    ids = torch.arange(length)[None] * 7 % 500
    with torch.no_grad():
        return model(ids).logits


@pytest.fixture(scope="module")
def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=3,
        n_head=4,
        n_embd=64,
        vocab_size=512,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config).eval()


def test_llama_has_equal_logits(stories: Path, lossless: Path) -> None:
    expected = transformers.AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32)
    found = load_model(lossless)
    assert type(found) is type(expected)
    assert found.dtype == torch.float32
    assert not found.training
    difference = (logits(found, 100) - logits(expected.eval(), 100)).abs().max().item()
    assert difference <= 1e-4
    text = found.generate(torch.tensor([[1, 403, 407]]), max_new_tokens=4, do_sample=False)
    assert text.shape == (1, 7)


def test_gpt2_has_equal_logits(gpt2: Any, tmp_path: Path) -> None:
    path = save_packed(gpt2, tmp_path / "packed")
    assert path.is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == ["packed"]
    found = load_model(tmp_path / "packed")
    assert found.lm_head.weight is found.transformer.wte.weight
    assert (logits(found, 64) - logits(gpt2, 64)).abs().max().item() <= 1e-4


def test_a_lossy_model_is_near(gpt2: Any, tmp_path: Path) -> None:
    save_packed(gpt2, tmp_path / "packed", "int8")
    found = load_model(tmp_path / "packed", dtype=torch.bfloat16)
    assert found.dtype == torch.bfloat16
    reference = logits(gpt2, 64)
    difference = (logits(found, 64).float() - reference).norm() / reference.norm()
    assert 0 < difference < 0.05


def test_tensors_of_torch(stories: Path) -> None:
    weights = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        tensor = weights.to(dtype)
        encoded = netweight.encode(tensor, "lossless")
        assert encoded.dtype == {4: "F32", 2: encoded.dtype}[tensor.element_size()]
        assert (encoded.decode() == tensor.float().numpy()).all()
    assert netweight.encode(weights.T, "lossless").shape == (64, 8)
    with netweight.open(stories) as model:
        name = "model.norm.weight"
        tensor = model.tensor(name, "torch")
        assert tensor.dtype == torch.float32
        assert (tensor.numpy() == model[name]).all()
        # The file is not written to.
        tensor.zero_()
        assert np.abs(model[name]).max() > 0
        assert model.tensor(name, "torch", torch.bfloat16).dtype == torch.bfloat16


def test_a_model_that_does_not_fit(stories: Path, tmp_path: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(stories)
    config.num_hidden_layers += 1
    config.save_pretrained(tmp_path)
    netweight.compress(stories / "model.safetensors", tmp_path / "model.nw.safetensors")
    with pytest.raises(RuntimeError, match=r"missing_keys.*layers\.5"):
        load_model(tmp_path)
