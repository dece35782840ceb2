"""age as the camera uses it: given out chunk by chunk, opened as far as it goes, by pyrage and by stock age."""

from __future__ import annotations

import base64
import gc
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.encryption.identity import Identities
from agent.encryption.recipients import Recipients, why_unfit
from agent.encryption.stream import CHUNK_BYTES, AgeStream, whole_chunks
from agent.errors import EncoderError, EncryptionError
from agent.media.mp4 import walk
from agent.media.padding import free_box, free_up_to
from tests.support.evidence_key import EVIDENCE, EvidenceKey, opened, stock_age

RECIPIENTS = Recipients([EVIDENCE.recipient])
SIZES = st.one_of(st.integers(0, 200), st.integers(CHUNK_BYTES - 3, CHUNK_BYTES + 3), st.integers(0, 200_000))


def pattern(size_bytes: int) -> bytes:
    return (bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes]


@settings(max_examples=60, deadline=None)
@given(st.lists(SIZES, max_size=6), st.booleans())
def test_whatever_the_pieces_it_gives_out_all_but_the_chunk_held_back(sizes: list[int], finished: bool) -> None:
    stream = RECIPIENTS.new_stream()
    data = pattern(sum(sizes))
    cipher, at = b"", 0
    for size in sizes:
        cipher += stream.add(data[at : at + size])
        at += size
        assert stream.plain_bytes == at
        assert opened(cipher) == data[: whole_chunks(at) * CHUNK_BYTES]
        assert at - whole_chunks(at) * CHUNK_BYTES <= CHUNK_BYTES
    if finished:
        cipher += stream.finish()
        assert opened(cipher) == data
    assert stream.cipher_bytes == len(cipher)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(0, 3))
def test_a_file_cut_anywhere_opens_to_its_whole_chunks(cut: int, damage: int) -> None:
    data = pattern(3 * CHUNK_BYTES + 1000)
    stream = RECIPIENTS.new_stream()
    cipher = stream.add(data) + stream.finish()
    cut %= len(cipher)
    torn = cipher[:cut] + b"\0" * (damage * 5000)
    try:
        found = opened(torn)
    except EncryptionError:
        assert cut < 400  # inside its header
        return
    assert found == data[: len(found)]
    header_bytes = len(cipher) - len(data) - 4 * 16
    assert len(found) == max(0, cut - header_bytes) // (CHUNK_BYTES + 16) * CHUNK_BYTES


def test_stock_age_opens_what_is_whole_and_what_is_torn(tmp_path: Path) -> None:
    data = pattern(2 * CHUNK_BYTES + 9)
    stream = RECIPIENTS.new_stream()
    given_out = stream.add(data)
    key = EVIDENCE.write(tmp_path / "key.txt")
    torn, whole = tmp_path / "torn.age", tmp_path / "whole.age"
    torn.write_bytes(given_out)
    whole.write_bytes(given_out + stream.finish())
    assert stock_age(whole, key) == (0, data, "")
    code, found, complaint = stock_age(torn, key)
    assert (code, found) == (1, data[: 2 * CHUNK_BYTES])
    assert "unexpected EOF" in complaint


def test_an_identity_file_of_age_keygen_and_several_recipients(tmp_path: Path) -> None:
    path = tmp_path / "made.txt"
    subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", str(path)], check=True, capture_output=True, text=True).stdout.strip()
    stream = Recipients([EVIDENCE.recipient, public]).new_stream()
    cipher = stream.add(b"both of them") + stream.finish()
    for identities in (EVIDENCE.identities, Identities.load(path)):
        plain = bytearray()
        assert identities.decrypt(iter([cipher]), plain.extend) is None
        assert plain == b"both of them"


def test_another_s_key_opens_nothing() -> None:
    stream = RECIPIENTS.new_stream()
    cipher = stream.add(pattern(100)) + stream.finish()
    with pytest.raises(EncryptionError, match="does not open with this identity"):
        opened(cipher, EvidenceKey.generate())


def test_decrypting_reads_all_and_passes_on_what_its_ends_raise() -> None:
    stream = RECIPIENTS.new_stream()
    cipher = stream.add(pattern(300_000))
    pieces = iter([cipher[:100_000], cipher[100_000:], b"behind", b"it"])
    assert EVIDENCE.identities.decrypt(pieces, lambda _: None) is not None
    assert list(pieces) == []
    damaged = cipher[:1000] + b"x" + cipher[1001:]
    pieces = iter([damaged[at : at + 1000] for at in range(0, len(damaged), 1000)])
    assert EVIDENCE.identities.decrypt(pieces, lambda _: None) is not None
    assert list(pieces) == []

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        EVIDENCE.identities.decrypt(iter([cipher]), full)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no age identity"),
        ("# only a comment\n", "holds no age identity"),
        ("AGE-SECRET-KEY-1QQQ\n", "Line 1"),
        ("# x\n\nage1ccrpkw553chdtdym35grs8xku0z0jqgt9ksaz9wexud50jgvye7s0s6w6h\n", "Line 3"),
        ("é", "cannot be read"),
    ],
)
def test_an_identity_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "key.txt"
    path.write_text(text)
    with pytest.raises(EncryptionError, match=said) as caught:
        Identities.load(path)
    assert "SECRET-KEY-1QQQ" not in str(caught.value)
    with pytest.raises(EncryptionError, match="cannot be read"):
        Identities.load(tmp_path / "absent")


def test_recipients_are_refused_with_a_reason() -> None:
    assert why_unfit(EVIDENCE.recipient) is None
    for wrong in ("age1", EVIDENCE.recipient[:-1], str(EVIDENCE.key), "ssh-ed25519 AAAA"):
        assert "is no age public key" in (why_unfit(wrong) or "")
        with pytest.raises(EncryptionError):
            Recipients([wrong])
    with pytest.raises(EncryptionError):
        Recipients([])


def test_without_pyrage_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    assert "bodycam-agent[encryption]" in (why_unfit(EVIDENCE.recipient) or "")
    with pytest.raises(EncryptionError, match=r"bodycam-agent\[encryption\]"):
        Identities.load(tmp_path / "key.txt")


def test_sealed_fields_open_again_and_their_length_tells_nothing() -> None:
    names = ["", "Jo", "Zoë Ångström", "x" * 100]
    sealed = [RECIPIENTS.seal({"wearer": name}) for name in names]
    assert [EVIDENCE.identities.open_sealed(text) for text in sealed] == [{"wearer": name} for name in names]
    # age puts a stanza of random length into its headers; what is left is the payload.
    payloads = {len(base64.b64decode(text).partition(b"\n--- ")[2]) for text in sealed}
    assert len(payloads) == 1
    with pytest.raises(EncryptionError):
        EvidenceKey.generate().identities.open_sealed(sealed[0])
    for wrong in ("", "!", base64.b64encode(b"no age file").decode()):
        with pytest.raises(EncryptionError):
            EVIDENCE.identities.open_sealed(wrong)


def test_a_stream_that_is_dropped_leaves_no_thread() -> None:
    before = set(threading.enumerate())  # and not their number: a thread of an earlier test may end meanwhile
    streams = [RECIPIENTS.new_stream() for _ in range(5)]
    assert streams[0].add(pattern(CHUNK_BYTES + 1))
    assert len(set(threading.enumerate()) - before) == 5
    streams.clear()
    gc.collect()
    assert set(threading.enumerate()) <= before


def test_a_process_ends_normally_with_a_stream_open() -> None:
    code = (
        "from agent.encryption.recipients import Recipients\n"
        f"stream = Recipients(['{EVIDENCE.recipient}']).new_stream()\n"
        "stream.add(bytes(100_000))\n"
        "raise SystemExit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 7


def test_age_that_fails_is_said_and_waits_for_nobody() -> None:
    stream = AgeStream([object()])  # what pyrage does not take
    with pytest.raises(EncoderError, match="age"):
        stream.add(pattern(CHUNK_BYTES + 1))
    with pytest.raises(EncoderError, match="age"):
        stream.finish()


def test_memory_and_time_do_not_grow_with_the_file() -> None:
    piece = pattern(750_000)
    stream = RECIPIENTS.new_stream()
    for _ in range(20):
        stream.add(piece)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    for _ in range(200):
        stream.add(piece)
    assert stream.plain_bytes == 165_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 4_000
    assert time.process_time() - begun < 10  # 150 MB: 200 s of video


@given(st.integers(0, 1 << 20), st.sampled_from([8, 16, 4096, CHUNK_BYTES]))
def test_free_space_ends_where_it_should_and_is_boxes(position: int, unit: int) -> None:
    space = free_up_to(position, unit)
    assert (position + len(space)) % unit == 0
    assert len(space) < unit + 8
    assert [box.type for box in walk(space)] == ([b"free"] if space else [])


def test_no_box_is_smaller_than_its_header() -> None:
    assert free_box(8) == b"\x00\x00\x00\x08free"
    with pytest.raises(ValueError, match="at least 8"):
        free_box(7)
