"""One age file while it grows: plaintext in, ciphertext out as soon as age has it.

age cuts its plaintext into chunks of 64 KiB, each sealed by itself, and marks the last one (age-encryption.org/v1,
"Payload"). A chunk is therefore held back until it is full *and* more has come. `agent.media.padding` pushes it out.

pyrage encrypts from a reader to a writer in one call, so that call runs in a thread of its own; `add` hands it bytes
and waits until it asks for more, by when it has written all that it can. Nothing ever runs at the same time.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any

from agent.errors import EncoderError

CHUNK_BYTES = 1 << 16
CHUNK_OVERHEAD_BYTES = 16
"""The Poly1305 tag (RFC 8439) behind each chunk."""

_NONCE_BYTES = 16
_END_TIMEOUT_S = 5.0


def whole_chunks(plain_bytes: int) -> int:
    """How many chunks age has given out after so many bytes of an unfinished file."""
    return (plain_bytes - 1) // CHUNK_BYTES if plain_bytes else 0


class AgeStream:
    """See the module's text. Not safe to use from several threads."""

    def __init__(self, recipients: Sequence[Any]) -> None:
        """recipients: pyrage's."""
        self._pipe = _Pipe()
        self.plain_bytes = 0
        """Plaintext taken so far."""
        self.cipher_bytes = 0
        """Ciphertext given out so far."""
        self._header_bytes = 0
        # The thread holds the pipe and not the stream, so that a stream that is dropped ends its thread.
        thread = threading.Thread(target=_encrypt, args=(self._pipe, list(recipients)), name="age", daemon=True)
        weakref.finalize(self, _end, self._pipe, thread)
        thread.start()

    def add(self, data: bytes | memoryview) -> bytes:
        """The ciphertext that is complete with this plaintext; age's header precedes the first. Raises EncoderError."""
        self.plain_bytes += len(data)
        cipher = self._pipe.exchange(data)
        if cipher and not self.cipher_bytes:
            self._header_bytes = _header_bytes(cipher)
        self.cipher_bytes += len(cipher)
        chunks = whole_chunks(self.plain_bytes)
        expected = self._header_bytes + chunks * (CHUNK_BYTES + CHUNK_OVERHEAD_BYTES) if chunks else 0
        if self.cipher_bytes != expected:
            raise EncoderError(
                f"age gave out {self.cipher_bytes} bytes for {self.plain_bytes} instead of {expected}; what is on "
                "flash could not be vouched for. Restart the agent, with the version of pyrage that it was tested with."
            )
        return cipher

    def finish(self) -> bytes:
        """The ciphertext that was still held back, with the mark that it is the last. Raises EncoderError."""
        cipher = self._pipe.finish()
        self.cipher_bytes += len(cipher)
        return cipher


def _header_bytes(cipher: bytes) -> int:
    """What precedes the first chunk: text up to its MAC line, and the nonce of 16 bytes."""
    mac = cipher.find(b"\n--- ")
    end = cipher.find(b"\n", mac + 1)
    if not cipher.startswith(b"age-encryption.org/v1\n") or mac < 0 or end < 0:
        raise EncoderError("What age gave out does not begin with an age header; restart the agent.")
    return end + 1 + _NONCE_BYTES


def _end(pipe: _Pipe, thread: threading.Thread) -> None:
    """Let age finish into nowhere. Waited for: a thread inside pyrage when Python goes down takes the process along."""
    pipe.abandon()
    if thread is not threading.current_thread():
        thread.join(_END_TIMEOUT_S)


def _encrypt(pipe: _Pipe, recipients: list[Any]) -> None:
    import pyrage

    try:
        pyrage.encrypt_io(pipe, pipe, recipients)
    except Exception as error:  # noqa: BLE001 told to whoever waits for ciphertext
        pipe.end(error)
    else:
        pipe.end(None)


class _Pipe:
    """Between the two: `read` and `write` are called by age's thread, the others by the stream's."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._given = memoryview(b"")
        self._no_more = False
        self._hungry = False
        self._ended = False
        self._error: Exception | None = None
        self._out: list[bytes] = []

    def read(self, count: int = -1) -> bytes:
        """At most `count` bytes, as soon as there are any; none at the end."""
        with self._turn:
            if not self._given and not self._no_more:
                self._hungry = True
                self._turn.notify_all()
                self._turn.wait_for(lambda: len(self._given) > 0 or self._no_more)
            piece = self._given if count < 0 else self._given[:count]
            self._given = self._given[len(piece) :]
            return bytes(piece)

    def write(self, data: bytes) -> int:
        """Take ciphertext."""
        self._out.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held here."""

    def end(self, error: Exception | None) -> None:
        """The call to age is over."""
        with self._turn:
            self._ended, self._error = True, error
            self._turn.notify_all()

    def exchange(self, data: bytes | memoryview) -> bytes:
        with self._turn:
            if data and not self._ended:
                self._given = memoryview(data)
                self._hungry = False
                self._turn.notify_all()
        return self.take()

    def take(self) -> bytes:
        """What age has written by the time it wants more."""
        with self._turn:
            self._turn.wait_for(lambda: self._hungry or self._ended)
            if self._ended:
                raise EncoderError(f"age has stopped encrypting ({self._error}); restart the agent.")
            return self._collect()

    def finish(self) -> bytes:
        with self._turn:
            self._no_more = True
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._ended)
            if self._error is not None:
                raise EncoderError(f"age could not finish a file ({self._error}); restart the agent.")
            return self._collect()

    def abandon(self) -> None:
        with self._turn:
            self._no_more = True
            self._turn.notify_all()

    def _collect(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)
