"""Encoded chunks in one piece of memory: with and without the libraries' own functions."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest
from numcodecs.fletcher32 import Fletcher32

from dcorflow.engine import encode, filters, pack, plugins, room
from dcorflow.engine.cut import Cut
from dcorflow.engine.filters import Undecodable, checksum, verify_fletcher32


@pytest.fixture(params=["with HDF5's function", "without it"])
def function(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the checksum in both ways."""
    if request.param == "without it":
        for module in (filters, pack):
            monkeypatch.setattr(module, "fletcher32", lambda: None)
    elif plugins.fletcher32() is None:
        pytest.skip("this HDF5 hides its checksum")


@pytest.mark.parametrize("count", [1, 2, 7, 359, 361, 40_001])
def test_checksum_is_that_of_hdf5s_filter(function: None, count: int) -> None:
    data = np.random.default_rng(count).integers(0, 256, count, np.uint8)
    assert checksum(data) == bytes(Fletcher32().encode(data.tobytes()))[-4:]
    if count < 300:
        with h5py.File.in_memory() as h5:
            made = h5.create_dataset("x", data=data, chunks=(count,), fletcher32=True)
            assert bytes(made.id.read_direct_chunk((0,))[1]) == data.tobytes() + checksum(data)


def test_every_flipped_bit_is_seen(function: None) -> None:
    data = np.random.default_rng(1).integers(0, 256, 50, np.uint8)
    stored = bytearray(data.tobytes() + checksum(data))
    assert bytes(verify_fletcher32(bytes(stored))) == data.tobytes()
    for bit in range(8 * len(stored)):
        stored[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Undecodable, match="checksum"):
            verify_fletcher32(bytes(stored))
        stored[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Undecodable, match="too few"):
        verify_fletcher32(bytes(4))


def encoded(encoding: encode.Encoding, data: np.ndarray) -> bytes:
    """Return bytes as one chunk, without its checksum."""
    return pack.pack(Cut(data.shape, data.shape, 1), data, encoding).memory[:-4].tobytes()


ENCODINGS = [*encode.BYTES, encode.STRIP, *encode.SMOOTH, *encode.shuffled(1, 9000)]


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.words)
def test_hdf5_reads_what_was_packed(function: None, encoding: encode.Encoding, noise: bool) -> None:
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256 if noise else 3, (40, 30, 300), np.uint8)
    made = pack.pack(Cut(data.shape, (1, 30, 300), 1), data.reshape(-1), encoding)
    assert made.size(10) == made.memory.size + 400
    assert made.size(0, 7) == sum(len(raw) for _, raw in list(made.stored())[:7])
    mask = 0 if encoding.shuffle == "none" else 1
    options = dict(hdf5plugin.Zstd(clevel=5), fletcher32=True)
    with h5py.File.in_memory() as h5:
        target = h5.create_dataset("x", data.shape, "u1", chunks=(1, 30, 300), **options)
        for offset, raw in made.stored():
            if mask:  # undone here: the dataset has no such filter
                planes = filters.decode_zstd(verify_fletcher32(bytes(raw)), 9000)
                plain = plugins.bitshuffle(planes, 1, encoding.block, undo=True)
                raw = plain.tobytes() + checksum(plain)
            target.id.write_direct_chunk(offset, raw, mask)
        assert np.array_equal(target[:], data)


def test_the_rest_of_a_room_is_given_back() -> None:
    space = room.Arena(2**20).rooms(2, 2**19)[0]
    cut, data = Cut((480_000,), (60_000,), 1), np.repeat(np.arange(8, dtype=np.uint8), 60_000)
    with space.open():
        first = pack.pack(cut, data, encode.STRIP)
        second = room.empty(64)
        assert 0 <= second.ctypes.data - first.memory.ctypes.data - first.memory.size < 64
    assert [bytes(raw) for _, raw in first.stored()] == [
        bytes(raw) for _, raw in pack.pack(cut, data, encode.STRIP).stored()
    ]


@pytest.mark.parametrize("library", [True, False])
def test_chunks_are_decoded_in_place(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not library:
        monkeypatch.setattr(filters, "zstd_decoder", lambda: None)
    elif plugins.zstd_decoder() is None:
        pytest.skip("hdf5plugin's library hides its functions")
    data = np.random.default_rng(5).integers(0, 9, 7000, np.uint8)
    frame = encoded(encode.STANDARD, data)
    pipeline = filters.Pipeline(((filters.ZSTD, (5,)), (filters.FLETCHER32, ())), 1, data.size)
    into = np.zeros_like(data)

    def decode(content: bytes) -> None:
        stored = np.frombuffer(b"before" + content + checksum(content), np.uint8)
        pipeline.decode_chunks(stored, 6, [stored.size], [0], into.reshape(1, -1))

    decode(frame)
    assert np.array_equal(into, data)
    half = encoded(encode.STANDARD, data[:3500])
    for wrong in (frame[:-3], frame + frame, frame + b"x", half, b"no frame at all"):
        with pytest.raises(Undecodable, match=r"Zstandard|bytes after decoding"):
            decode(wrong)


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_bytes_are_shuffled_as_hdf5_does(itemsize: int) -> None:
    data = np.random.default_rng(itemsize).integers(0, 256, 24, np.uint8)
    planes = data.reshape(-1, itemsize).T.tobytes()
    for rest in (b"", b"abcdefgh"[: itemsize - 1]):  # of no whole element: stays at the end
        assert bytes(filters.shuffle(data.tobytes() + rest, itemsize)) == planes + rest
        assert bytes(filters.unshuffle(planes + rest, itemsize)) == data.tobytes() + rest
    with h5py.File.in_memory() as h5:
        made = h5.create_dataset("x", data=data.view(f"u{itemsize}"), chunks=True, shuffle=True)
        assert bytes(made.id.read_direct_chunk((0,))[1]) == (planes if itemsize > 1 else data.tobytes())
