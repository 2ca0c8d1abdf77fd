"""Tensors of dense and packed files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import netweight


def write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]], pad: int = 0) -> Path:
    """A safetensors file by hand, for dtypes that numpy lacks."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        end = offset + len(data)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + pad)
    data = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_dense_tensors_equal_those_of_safetensors(stories: Path) -> None:
    expected = load_file(stories / "model.safetensors")
    with netweight.open(stories) as model:
        assert set(model.keys()) == set(expected)
        assert len(model) == len(expected)
        for name in model:
            found = model[name]
            assert found.dtype == expected[name].dtype
            assert found.shape == expected[name].shape == model.spec(name).shape
            assert (found == expected[name]).all()
        assert model.kind == "dense"
        assert "model.norm.weight" in model
        assert "nothing" not in model


def test_dense_tensors_are_not_copied(stories: Path) -> None:
    with netweight.open(stories) as model:
        first, second = (model["model.norm.weight"] for _ in range(2))
    assert first.ctypes.data == second.ctypes.data
    assert not first.flags.writeable
    # The map lives as long as the arrays.
    assert first.sum() == second.sum()
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_packed_tensors_are_within_their_certificates(stories: Path, packed: Path) -> None:
    expected = load_file(stories / "model.safetensors")
    stated = {tensor["name"]: tensor for tensor in netweight.info(packed)["tensors"]}
    with netweight.open(packed) as model:
        assert model.kind == "packed"
        for name, tensor in stated.items():
            error = np.abs(model[name] - expected[name]).max()
            assert error == pytest.approx(tensor["certificate"]["max_abs"], rel=1e-5)
            assert (error == 0) == tensor["certificate"]["exact"]
        own = model["model.norm.weight"]
        own[0] = 7
        assert model["model.norm.weight"][0] != 7


@pytest.mark.parametrize("which", ["stories", "packed"])
def test_rows(which: str, request: pytest.FixtureRequest) -> None:
    with netweight.open(request.getfixturevalue(which)) as model:
        for name in ("model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"):
            whole = model[name]
            assert (model.rows(name, 3, 11) == whole[3:11]).all()
            assert model.rows(name, 5, 5).shape == (0, whole.shape[1])
            with pytest.raises(ValueError, match="rows"):
                model.rows(name, 0, len(whole) + 1)
        vector = model["model.norm.weight"]
        assert (model.rows("model.norm.weight", 0, 1) == vector[None]).all()
        with pytest.raises(ValueError, match="count from 0"):
            model.rows("model.norm.weight", -1, 1)


def test_every_dtype_of_numpy(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    tensors = {
        str(np.dtype(code)): draw.integers(0, 2, (3, 5)).astype(code)
        for code in ("?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8")
    }
    tensors |= {"empty": np.zeros((0, 4), np.float32), "scalar": np.array(2.5, np.float32)}
    save_file(tensors, tmp_path / "a.safetensors")
    netweight.compress(tmp_path / "a.safetensors", tmp_path / "a.nw.safetensors")
    for path in ("a.safetensors", "a.nw.safetensors"):
        with netweight.open(tmp_path / path) as model:
            for name, expected in tensors.items():
                found = model[name]
                assert found.dtype == expected.dtype
                assert found.shape == expected.shape
                assert (found == expected).all()


@pytest.mark.parametrize("pad", [0, 1])
def test_dtypes_that_numpy_lacks(tmp_path: Path, pad: int) -> None:
    """With padding of one byte, no tensor is aligned."""
    values = np.array([1.0, -2.5, 0.0, 3.140625], np.float32)
    bf16 = (values.view(np.uint32) >> 16).astype(np.uint16)
    codes = np.arange(256, dtype=np.uint8)
    path = write(
        tmp_path / "a.safetensors",
        {
            "bf16": ("BF16", [2, 2], bf16.tobytes()),
            "e4m3": ("F8_E4M3", [256], codes.tobytes()),
            "e5m2": ("F8_E5M2", [256], codes.tobytes()),
            "e8m0": ("F8_E8M0", [256], codes.tobytes()),
            "f32": ("F32", [4], values.tobytes()),
        },
        pad,
    )
    with netweight.open(path) as model:
        assert model.spec("bf16") == ("BF16", (2, 2))
        assert model["bf16"].dtype == np.float32
        assert (model["bf16"].reshape(-1) == values).all()
        bits = model.tensor("bf16", dtype="bits")
        assert bits.dtype == np.uint16
        assert (bits.reshape(-1) == bf16).all()
        assert model.tensor("bf16", dtype=np.float64).dtype == np.float64
        assert (model.rows("bf16", 1, 2) == values[2:][None]).all()
        assert (model["f32"] == values).all()
        assert (model["f32"].view(np.uint32) == model.tensor("f32", dtype="bits")).all()
        e4m3 = model["e4m3"]
        known = {0x00: 0.0, 0x01: 2.0**-9, 0x08: 2.0**-6, 0x38: 1.0, 0x7E: 448.0, 0xB8: -1.0}
        assert {code: float(e4m3[code]) for code in known} == known
        assert np.isnan(e4m3[[0x7F, 0xFF]]).all()
        assert np.isfinite(e4m3).sum() == 254
        e5m2 = model["e5m2"]
        assert (float(e5m2[0x3C]), float(e5m2[0x7B])) == (1.0, 57344.0)
        with pytest.raises(ValueError, match=r"E8M0.*bits"):
            model["e8m0"]
        assert (model.tensor("e8m0", dtype="bits") == codes).all()


def test_f8_equals_ml_dtypes(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    codes = np.arange(256, dtype=np.uint8)
    both = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}
    tensors = {name: (name, [256], codes.tobytes()) for name in both}
    with netweight.open(write(tmp_path / "a.safetensors", tensors)) as model:
        for name, dtype in both.items():
            expected = codes.view(dtype).astype(np.float32)
            assert np.array_equal(model[name], expected, equal_nan=True)


def test_wrong_names_and_closed_files(stories: Path) -> None:
    model = netweight.open(stories)
    with pytest.raises(KeyError, match="no tensor `nothing`"):
        model["nothing"]
    with pytest.raises(KeyError):
        model.spec("nothing")
    with pytest.raises(KeyError):
        model.rows("nothing", 0, 1)
    with pytest.raises(ValueError, match="framework"):
        model.tensor("model.norm.weight", "jax")  # type: ignore[call-overload]
    array = model["model.norm.weight"]
    model.close()
    model.close()
    assert model.closed
    for use in (model.keys, lambda: model["model.norm.weight"], lambda: model.kind):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert "closed" in repr(model)
    assert array.shape == (64,)


def test_cut_off_files(stories: Path, packed: Path, tmp_path: Path) -> None:
    for source in (stories / "model.safetensors", packed / "model.nw.safetensors"):
        data = source.read_bytes()
        for length in (0, 7, 100, len(data) // 2, len(data) - 1):
            cut = tmp_path / source.name
            cut.write_bytes(data[:length])
            with pytest.raises((netweight.NetweightError, OSError)), netweight.open(cut) as model:
                for name in model:
                    model[name]


def test_a_single_base(stories: Path, tmp_path: Path) -> None:
    target = tmp_path / "same.nw.safetensors"
    netweight.compress(stories, target, codec="delta.exact", bases=stories)
    with netweight.open(target, bases=str(stories)) as file:
        assert netweight.verify(target, against=stories, bases=stories) == []
        name = next(iter(file))
        with pytest.raises(ValueError, match="rows have no bits"):
            file.rows(name, 0, 1, dtype="bits")


def test_eight_threads(stories: Path, packed: Path) -> None:
    expected = load_file(stories / "model.safetensors")
    with netweight.open(stories) as dense, netweight.open(packed) as small:
        alone = {name: small[name] for name in small}

        def read(name: str) -> bool:
            same = (dense[name] == expected[name]).all() and (small[name] == alone[name]).all()
            encoded = netweight.encode(expected[name], "lossless")
            return bool(same and (encoded.decode() == expected[name]).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, list(expected) * 4))


def test_safetensors_lists_the_sections(packed: Path) -> None:
    """A packed file is a safetensors file."""
    with safe_open(packed / "model.nw.safetensors", "np") as file:
        assert any(name.startswith("model.norm.weight/0/") for name in file.keys())
