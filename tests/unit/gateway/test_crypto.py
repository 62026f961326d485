"""Sealing: what is sealed opens, what is changed does not, and no (key, nonce) pair comes twice."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import crypto
from gateway.wire import TAG_SIZE
from skyplane_core.errors import FrameCorrupt

KEY = bytes(32)


def sealed(sealer: crypto.Sealer, frame: int, raw: bytes, header: bytes = b"header") -> memoryview:
    out = memoryview(bytearray(len(raw) + TAG_SIZE))
    assert sealer.seal_into(frame, memoryview(raw), memoryview(header), out) == len(out)
    return out


@given(st.binary(min_size=1, max_size=500), st.data())
def test_any_change_is_noticed(raw: bytes, data: st.DataObject) -> None:
    sealer = crypto.seal_batch(KEY)
    opener = crypto.open_batch(KEY, sealer.salt)
    body = sealed(sealer, 3, raw)
    out = memoryview(bytearray(len(raw)))
    opener.open_into(3, body, memoryview(b"header"), out)
    assert out == raw
    for frame, header in ((4, b"header"), (3, b"Header")):
        with pytest.raises(FrameCorrupt):
            opener.open_into(frame, body, memoryview(header), out)
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FrameCorrupt):
        opener.open_into(3, body, memoryview(b"header"), out)


def test_sealing_and_opening_in_place() -> None:
    raw = os.urandom(1000)
    buffer = memoryview(bytearray(raw + bytes(TAG_SIZE)))
    sealer = crypto.seal_batch(KEY)
    sealer.seal_into(0, buffer[:1000], memoryview(b""), buffer)
    assert buffer[:1000] != raw
    crypto.open_batch(KEY, sealer.salt).open_into(0, buffer, memoryview(b""), buffer)
    assert buffer[:1000] == raw


def test_a_sealer_never_seals_a_counter_twice() -> None:
    sealer = crypto.seal_batch(KEY)
    sealed(sealer, 0, b"a")
    sealed(sealer, 5, b"b")
    for frame in (5, 4, 0, -1, 2**32):
        with pytest.raises(ValueError, match="nonce"):
            sealed(sealer, frame, b"c")


def test_every_sealing_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []
    derive = crypto.derive

    def recorded(secret: bytes, salt: bytes, label: bytes) -> bytes:
        keys.append(derive(secret, salt, label))
        return keys[-1]

    monkeypatch.setattr(crypto, "derive", recorded)
    batches = [crypto.seal_batch(KEY) for _ in range(200)]
    for batch in batches:
        # A replayed batch is answered once more.
        crypto.seal_answer(KEY, batch.salt)
        crypto.seal_answer(KEY, batch.salt)
    assert len(set(keys)) == len(keys) == 600


def test_a_batch_key_is_no_answer_key() -> None:
    assert crypto.derive(KEY, b"s" * 64, crypto._BATCH_LABEL) != crypto.derive(KEY, b"s" * 64, crypto._ANSWER_LABEL)
    batch = crypto.seal_batch(KEY)
    answer = crypto.seal_answer(KEY, batch.salt)
    body = sealed(answer, 0, b"raw")
    out = memoryview(bytearray(3))
    crypto.open_answer(KEY, batch.salt, answer.salt).open_into(0, body, memoryview(b"header"), out)
    assert out == b"raw"
    for opener in (crypto.open_batch(KEY, answer.salt), crypto.open_answer(bytes([1] * 32), batch.salt, answer.salt)):
        with pytest.raises(FrameCorrupt):
            opener.open_into(0, body, memoryview(b"header"), out)


def test_derive_is_hkdf_as_rfc_5869_has_it() -> None:
    # RFC 5869, test case 1, its first 32 bytes.
    okm = crypto.derive(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
