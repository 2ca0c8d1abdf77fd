"""Whole models: packed, unpacked, verified, compared, described, run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import netweight


def test_lossless_comes_back_byte_for_byte(stories: Path, lossless: Path, tmp_path: Path) -> None:
    netweight.decompress(lossless, tmp_path / "dense")
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "dense" / file).read_bytes() == (stories / file).read_bytes()


def test_compress_returns_the_file_and_reports(stories: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    target = netweight.compress(
        stories, tmp_path / "out", codec="quant.int:bits=4", progress=lambda *at: seen.append(at)
    )
    assert target == tmp_path / "out/model.nw.safetensors"
    assert target.is_file()
    assert all(0 <= done <= every for _, done, every in seen)
    codecs = {tensor["codec"] for tensor in netweight.info(target)["tensors"]}
    assert any(codec.startswith("quant.int:bits=4") for codec in codecs)


def test_threads_and_calls_give_the_same_bytes(stories: Path, tmp_path: Path) -> None:
    files = [
        netweight.compress(stories, tmp_path / f"{n}.nw.safetensors", "q4", threads=n)
        for n in (1, 3)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_target_in_the_way_is_refused(stories: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.nw.safetensors"
    netweight.compress(stories, target, "int8")
    with pytest.raises(FileExistsError, match="force=True"):
        netweight.compress(stories, target, "int8")
    netweight.compress(stories, target, "int8", force=True)
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense/x").write_text("x")
    with pytest.raises(FileExistsError, match="not empty"):
        netweight.decompress(target, tmp_path / "dense")


def test_verify(stories: Path, packed: Path, tmp_path: Path) -> None:
    assert netweight.verify(packed) == []
    assert netweight.verify(packed, against=stories) == []
    bad = tmp_path / "bad.nw.safetensors"
    data = bytearray((packed / "model.nw.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    bad.write_bytes(data)
    faults = netweight.verify(bad)
    assert len(faults) == 1
    assert "bad.nw.safetensors" in faults[0]
    with (
        pytest.raises(netweight.NetweightError, match="damaged"),
        netweight.open(bad) as model,
    ):
        for name in model:
            model[name]


def test_info(stories: Path, packed: Path) -> None:
    dense, small = netweight.info(stories), netweight.info(packed)
    assert dense["weights"] == small["weights"] == 260032
    assert [tensor["name"] for tensor in dense["tensors"]] == [
        tensor["name"] for tensor in small["tensors"]
    ]
    assert small["dense_bytes"] == dense["bytes"] > 3 * small["file_bytes"]
    assert 8 < small["bits_per_weight"] < 9
    json.dumps(small)


def test_diff(stories: Path, packed: Path, lossless: Path) -> None:
    assert {row["change"] for row in netweight.diff(stories, lossless)} == {"identical"}
    rows = netweight.diff(stories, packed)
    changed = [row for row in rows if row["change"] == "changed"]
    assert changed
    dense, small = load_file(stories / "model.safetensors"), netweight.open(packed)
    for row in changed:
        a, b = dense[row["name"]].astype(np.float64), small[row["name"]].astype(np.float64)
        assert row["max_abs_difference"] == pytest.approx(np.abs(a - b).max(), rel=1e-6)
        relative = np.linalg.norm(a - b) / np.linalg.norm(a)
        assert row["relative_difference"] == pytest.approx(relative, rel=1e-5)


def test_eval_and_generate(stories: Path, packed: Path) -> None:
    lines = (stories.parent / "tinystories/eval.jsonl").read_text().splitlines()[:4]
    texts = [json.loads(line)["text"] for line in lines]
    dense = netweight.eval(stories, texts, first_window=True)
    assert 3 < dense["perplexity"] < 6
    assert dense["perplexity"] == pytest.approx(np.exp(dense["nll"] / dense["tokens"]))
    small = netweight.eval(packed, texts, first_window=True, reference=stories, threads=1)
    assert small["reference_perplexity"] == pytest.approx(dense["perplexity"], rel=1e-5)
    assert 0 < small["kl"] < 0.01
    assert 0.95 < small["top1"] <= 1
    story = netweight.generate(stories, "Once upon a time", tokens=12)
    assert story == netweight.generate(stories, "Once upon a time", tokens=12, resident="dense")
    assert story.startswith(", there was a")
    assert netweight.generate(stories, "Once upon a time", stop=["was"]) == ", there "


def test_wrong_paths_and_arguments(stories: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        netweight.open(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        netweight.compress(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="holds no model"):
        netweight.info(tmp_path)
    with pytest.raises(ValueError, match="int9"):
        netweight.compress(stories, tmp_path / "out", "int9")
    with pytest.raises(ValueError, match="nothing"):
        netweight.compress(stories, tmp_path / "out", codec="nothing")
    with pytest.raises(ValueError, match="threads=0"):
        netweight.compress(stories, tmp_path / "out", threads=0)
    with pytest.raises(TypeError):
        netweight.open(3)  # type: ignore[arg-type]
    text = tmp_path / "text.safetensors"
    text.write_text("no model")
    with pytest.raises(netweight.NetweightError, match=r"text\.safetensors"):
        netweight.open(text)
    with pytest.raises(ValueError, match="temperature"):
        netweight.generate(stories, "x", temperature=-1)


def test_a_base(stories: Path, tmp_path: Path) -> None:
    shutil.copytree(stories, tmp_path / "base")
    netweight.compress(stories, tmp_path / "patch.nw.safetensors", bases=[tmp_path / "base"])
    with netweight.open(tmp_path / "patch.nw.safetensors") as model:
        name = "model.norm.weight"
        assert (model[name] == load_file(stories / "model.safetensors")[name]).all()
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(netweight.NetweightError, match="base"):
        netweight.open(tmp_path / "patch.nw.safetensors")
    netweight.open(tmp_path / "patch.nw.safetensors", bases=[tmp_path / "moved"]).close()


def test_an_exception_of_progress_ends_the_work(large: Path, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        netweight.compress(large, tmp_path / "out.nw.safetensors", "trellis-2bit", progress=stop)
    assert not (tmp_path / "out.nw.safetensors").exists()
