"""Arrays: encoded, decoded, measured, also by a codec in Python."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import netweight


@pytest.fixture
def weights() -> npt.NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((64, 256), dtype=np.float32)


def test_the_certificate_is_the_error(weights: npt.NDArray[np.float32]) -> None:
    encoded = netweight.encode(weights, "trellis:bits=3", seed=1)
    decoded = encoded.decode()
    assert decoded.shape == weights.shape
    assert decoded.dtype == np.float32
    assert 2.9 < encoded.bits_per_weight < 3.1
    assert encoded.bits_per_weight == 8 * encoded.nbytes / weights.size
    assert encoded.bound == pytest.approx(np.abs(weights - decoded).max(), rel=1e-6)
    relative = np.linalg.norm(weights - decoded) / np.linalg.norm(weights)
    assert encoded.relative_error == pytest.approx(relative, rel=1e-5)
    assert not encoded.exact
    assert encoded.codec.startswith("trellis:")
    assert ":bits=3.0" in encoded.codec
    assert (encoded.dtype, encoded.shape) == ("F32", (64, 256))


def test_bytes_and_pickle(weights: npt.NDArray[np.float32]) -> None:
    encoded = netweight.encode(weights, "quant.int:bits=4")
    data = encoded.to_bytes()
    for made in (
        netweight.Encoded.from_bytes(data),
        netweight.Encoded.from_bytes(bytearray(data)),
        netweight.Encoded.from_bytes(memoryview(data)),
        pickle.loads(pickle.dumps(encoded)),
        copy.deepcopy(encoded),
    ):
        assert made.to_bytes() == data
        assert (made.decode() == encoded.decode()).all()
        assert made.bound == encoded.bound
    for bad in (b"", b"abc", data[:-1], data[:100] + b"x" + data[101:]):
        with pytest.raises((netweight.NetweightError, ValueError)):
            netweight.Encoded.from_bytes(bad).decode()


def test_tensors_that_are_much_larger_than_their_bytes() -> None:
    encoded = netweight.encode(np.zeros(8 << 20, np.float32), "lossless")
    assert copy.copy(encoded).decode().size == 8 << 20
    read = netweight.Encoded.from_bytes(encoded.to_bytes())
    with pytest.raises(ValueError, match="give `max_bytes=33554432`"):
        read.decode()
    assert (read.decode(max_bytes=32 << 20) == 0).all()


def test_decoding_into_an_array(weights: npt.NDArray[np.float32]) -> None:
    encoded = netweight.encode(weights, "quant.int:bits=4")
    out = np.ones_like(weights)
    assert encoded.decode(out=out) is out
    assert (out == encoded.decode()).all()
    frozen = np.zeros_like(weights)
    frozen.flags.writeable = False
    for bad in (weights.T, weights[:1], np.zeros((64, 256)), np.zeros((256, 64)).T, frozen):
        with pytest.raises(ValueError, match="out has to be a contiguous, writable array of float"):
            encoded.decode(out=bad)
    with pytest.raises(ValueError, match="without dtype"):
        encoded.decode("float16", out=out)
    bits = netweight.encode(np.array([1, 2], np.uint16), "lossless", dtype="BF16")
    with pytest.raises(ValueError, match="a dtype of numpy"):
        bits.decode(out=np.zeros(2, np.float32))


def test_bits_of_the_other_byte_order() -> None:
    bits = np.array([0x3F80, 0x4000], ">u2")
    assert (netweight.encode(bits, "lossless", dtype="BF16").decode() == [1, 2]).all()


def test_seeds(weights: npt.NDArray[np.float32]) -> None:
    spec = "quant.vector"
    one, same, other = (netweight.encode(weights, spec, seed=seed) for seed in (1, 1, 2))
    assert one.to_bytes() == same.to_bytes() != other.to_bytes()


def test_arrays_of_any_layout(weights: npt.NDArray[np.float32]) -> None:
    for array in (weights[::2, 1::3], weights.T, weights[::-1], np.asfortranarray(weights)):
        assert (netweight.encode(array, "lossless").decode() == array).all()
    big = weights.astype(">f4")
    assert (netweight.encode(big, "lossless").decode() == weights).all()
    raw = np.frombuffer(b"x" + weights.tobytes(), np.uint8)[1:].view(np.float32)
    assert (netweight.encode(raw, "lossless").decode() == weights.reshape(-1)).all()
    for array in (np.float32(3), np.zeros((0, 3), np.float32), np.ones((2, 3, 4, 5), np.float16)):
        decoded = netweight.encode(array, "lossless").decode()
        assert decoded.shape == array.shape
        assert decoded.dtype == array.dtype
        assert (decoded == array).all()


def test_arrays_of_other_libraries(weights: npt.NDArray[np.float32]) -> None:
    class Tensor:
        """Has DLPack only."""

        def __dlpack__(self, **given: Any) -> Any:
            return weights.__dlpack__(**given)

        def __dlpack_device__(self) -> Any:
            return weights.__dlpack_device__()

    encoded = netweight.encode(Tensor(), "lossless")
    assert encoded.dtype == "F32" and (encoded.decode() == weights).all()
    assert (np.from_dlpack(encoded.decode()) == weights).all()


def test_other_dtypes(weights: npt.NDArray[np.float32]) -> None:
    for dtype in ("f8", "f2", "i8", "u1", "?", "c8"):
        array = weights.astype(dtype)
        decoded = netweight.encode(array, "lossless").decode()
        assert decoded.dtype == array.dtype
        assert (decoded == array).all()
    with pytest.raises(ValueError, match=r"F64.*F32, F16 and BF16"):
        netweight.encode(weights.astype(np.float64), "trellis:bits=3")
    bits = (weights.view(np.uint32) >> 16).astype(np.uint16)
    encoded = netweight.encode(bits, "quant.int:bits=8", dtype="BF16")
    assert encoded.dtype == "BF16"
    assert encoded.decode().dtype == np.float32
    assert encoded.decode("bits").dtype == np.uint16
    assert np.abs(encoded.decode() - weights).max() < 0.1
    with pytest.raises(ValueError, match="does not hold the bits of BF16"):
        netweight.encode(weights, "lossless", dtype="BF16")


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array(["a", "b"]),
        np.array([b"a"]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(3, [("a", "f4")]),
        np.zeros(3, np.complex128),
        None,
        "text",
    ],
)
def test_what_holds_no_weights(array: object) -> None:
    with pytest.raises(TypeError):
        netweight.encode(array, "lossless")


def test_refusals(weights: npt.NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="unknown codec `nothing`"):
        netweight.encode(weights, "nothing")
    with pytest.raises(ValueError, match="bits"):
        netweight.encode(weights, "quant.int:bits=99")
    weights[1, 2] = np.nan
    with pytest.raises(ValueError, match="258 is not finite"):
        netweight.encode(weights, "quant.int:bits=4")
    with pytest.raises(ValueError, match="base"):
        netweight.encode(np.ones((4, 64), np.float32), "delta.sign")
    with pytest.raises(OverflowError):
        netweight.encode(weights, "lossless", seed=-1)


def test_list_codecs() -> None:
    codecs = {codec["id"]: codec for codec in netweight.list_codecs()}
    assert {"lossless", "quant.int", "seedlm", "trellis"} <= set(codecs)
    for codec in codecs.values():
        for preset in codec["presets"]:
            least, most = preset["bits_per_weight"] or (0, 0)
            assert least <= most
    assert netweight.encode(np.ones((4, 64), np.float32), "lossless").exact


class Mean:
    """The sign and the mean magnitude of each row."""

    def cost(self, shape: tuple[int, ...]) -> int:
        rows, columns = shape
        return rows * 4 + rows * -(-columns // 8)

    def encode(self, weights: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[Any]]:
        return {
            "scale": np.abs(weights).mean(1, dtype=np.float32),
            "sign": np.packbits(weights < 0, axis=1),
        }

    def decode(
        self, sections: Mapping[str, npt.NDArray[Any]], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        negative = np.unpackbits(sections["sign"], axis=1, count=shape[1])
        return np.where(negative, -1, 1) * sections["scale"][:, None]


def test_a_codec_in_python(weights: npt.NDArray[np.float32], tmp_path: Path) -> None:
    spec = netweight.register_codec("mean", Mean)
    assert spec == "python:name=mean"
    rows = netweight.bench({"w": weights}, [spec, "quant.int:bits=2", "lossless"])
    assert [row["status"] for row in rows] == ["ok"] * 3
    own = rows[0]
    assert own["codec"] == spec
    assert own["bits_per_weight"] == 1 + 32 / 256
    assert own["relative_error"] == pytest.approx((1 - 2 / np.pi) ** 0.5, rel=0.02)
    assert own["encode_mb_per_s"] > 0
    encoded = netweight.encode(weights, spec)
    again = netweight.Encoded.from_bytes(encoded.to_bytes()).decode()
    expected = np.sign(weights) * np.abs(weights).mean(1, keepdims=True)
    assert np.abs(again - expected).max() < 1e-6
    assert any(codec["id"] == "python" for codec in netweight.list_codecs())
    from safetensors.numpy import save_file

    save_file({"w": weights}, tmp_path / "a.safetensors")
    target = netweight.compress(
        tmp_path / "a.safetensors", tmp_path / "a.nw.safetensors", codec=spec
    )
    assert (netweight.open(target)["w"] == again).all()


class Broken(Mean):
    def __init__(self, how: str):
        self.how = how

    def cost(self, shape: tuple[int, ...]) -> int:
        return 3 if self.how == "cost" else super().cost(shape)

    def encode(self, weights: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[Any]]:
        if self.how == "encode":
            raise ArithmeticError("no luck")
        return super().encode(weights)

    def decode(
        self, sections: Mapping[str, npt.NDArray[Any]], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        decoded = super().decode(sections, shape)
        return decoded[1:] if self.how == "decode" else decoded


def test_a_wrong_codec_in_python(weights: npt.NDArray[np.float32]) -> None:
    reasons = {"cost": "the codec's cost says 3 to 3", "encode": "no luck", "decode": "returned"}
    for how, reason in reasons.items():
        spec = netweight.register_codec("broken", Broken(how))
        (row,) = netweight.bench([weights], spec)
        assert row["status"] == "failed"
        assert reason in row["reason"]
    with pytest.raises(ArithmeticError, match="no luck"):
        netweight.encode(weights, netweight.register_codec("broken", Broken("encode")))
    with pytest.raises(TypeError, match="no method `cost`"):
        netweight.register_codec("broken", object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a name is"):
        netweight.register_codec("Broken:1", Mean)
    with pytest.raises(ValueError, match="no Python codec `stranger`"):
        netweight.encode(weights, "python:name=stranger")


def test_sections_have_dtypes_of_numpy(weights: npt.NDArray[np.float32]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

    class Halves(Mean):
        def encode(self, weights: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[Any]]:
            return {"halves": weights.astype(ml_dtypes.bfloat16)}

    with pytest.raises(TypeError, match="section `halves` is BF16"):
        netweight.encode(weights, netweight.register_codec("halves", Halves))


def test_bench_of_a_model(stories: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    rows = netweight.bench(stories, "quant.q4_0", progress=lambda *at: seen.append(at))
    assert len(rows) == 47
    assert all(stage == "measure" and done <= every == 47 for stage, done, every in seen)
    assert {row["status"] for row in rows} == {"ok", "unsupported"}
    with pytest.raises(ValueError, match="unknown codec"):
        netweight.bench(stories, ["nothing"])
