"""The other side: an identity file opens age files as far as they go. Used by examiners; the camera has none.

A file that a power cut tore has no last chunk. Every chunk in front of the tear is sealed by itself and opens.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from agent.errors import EncryptionError

MAX_IDENTITY_FILE_BYTES = 1 << 16
MAX_HEADER_BYTES = 8192
"""Of an age file: room for some 70 recipients. age's own parser begins anew with each few bytes that it reads, which
takes minutes for a header of 256 KiB."""
_HEADER_START = b"age-encryption.org/v1\n"
_HEADER_END = b"\n--- "


class Identities:
    """The private keys of an identity file as age-keygen writes it: one a line, comments behind "#"."""

    def __init__(self, keys: Iterable[Any]) -> None:
        """keys: pyrage's."""
        self._keys = list(keys)

    @classmethod
    def load(cls, path: Path) -> Identities:
        """Raises EncryptionError saying what is wrong with the file; no key is in the message."""
        try:
            from pyrage import IdentityError, x25519
        except ImportError as error:
            raise EncryptionError(
                'Decrypting needs the package pyrage: pip install "bodycam-agent[encryption]".'
            ) from error
        try:
            with path.open("rb") as file:
                text = file.read(MAX_IDENTITY_FILE_BYTES).decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise EncryptionError(f"The identity file {path} cannot be read: {error}.") from error
        keys = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                keys.append(x25519.Identity.from_str(line.strip()))
            except IdentityError as error:
                raise EncryptionError(
                    f"Line {number} of {path} is no age identity (AGE-SECRET-KEY-1…); one that is protected by a "
                    "passphrase has to be opened with `age -d` first."
                ) from error
        if not keys:
            raise EncryptionError(f"{path} holds no age identity; `age-keygen` makes one.")
        return cls(keys)

    def decrypt(self, cipher: Iterator[bytes], take: Callable[[bytes], None]) -> str | None:
        """Give the plaintext of an age file to `take`, piece by piece, as far as it opens.

        Returns None when the file was opened to its end, else why it ends where it does. All of `cipher` is consumed,
        so that whoever feeds it can hash it. Raises EncryptionError when not even its header opens: it is for another
        key, or no age file. What `take` and `cipher` raise goes through.
        """
        import pyrage

        source, target = _Source(cipher), _Target(take)
        if (wrong := _header_problem(source.peek(MAX_HEADER_BYTES))) is not None:
            source.drain()
            raise EncryptionError(f"It does not open with this identity ({wrong}).")
        why: str | None = None
        try:
            pyrage.decrypt_io(source, target, self._keys)
        except (pyrage.DecryptError, OSError) as error:
            failure = source.error or target.error
            if failure is not None:
                raise failure from None  # pyrage makes one sentence of whatever its reader raised
            # Its own errors in front of the payload are DecryptErrors; from there on a reader's, which are OSErrors.
            if isinstance(error, pyrage.DecryptError):
                source.drain()
                raise EncryptionError(f"It does not open with this identity ({error}).") from error
            why = str(error)
        source.drain()
        return why

    def open_sealed(self, sealed: str) -> dict[str, str]:
        """The fields of a record that were sealed. Raises EncryptionError."""
        import pyrage

        try:
            cipher = base64.b64decode(sealed, validate=True)
            if (wrong := _header_problem(cipher[:MAX_HEADER_BYTES])) is not None:
                raise EncryptionError(f"The sealed fields do not open with this identity ({wrong}).")
            document = json.loads(pyrage.decrypt(cipher, self._keys))
        except (pyrage.DecryptError, binascii.Error, ValueError, RecursionError) as error:
            raise EncryptionError(f"The sealed fields do not open with this identity ({error}).") from error
        if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
            raise EncryptionError("The sealed fields are not what a camera seals: a JSON object of strings.")
        return document


def _header_problem(head: bytes) -> str | None:
    """Why age should not be given a file that begins like this, or None; what is wrong with a header is for age."""
    if not head.startswith(_HEADER_START):
        return "it is no age file"
    if _HEADER_END not in head and len(head) >= MAX_HEADER_BYTES:
        return f"its header has more than {MAX_HEADER_BYTES} bytes, and no camera writes such a one"
    return None


class _Source:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")
        self.error: BaseException | None = None

    def peek(self, count: int) -> bytes:
        """The first `count` bytes, or all there are; `read` gives them again. Raises what the chunks raise."""
        head = bytearray()
        while len(head) < count and (chunk := next(self._chunks, None)) is not None:
            head += chunk
        self._left = memoryview(bytes(head))
        return bytes(head[:count])

    def read(self, count: int = -1) -> bytes:
        try:
            while not self._left:
                self._left = memoryview(next(self._chunks))
        except StopIteration:
            return b""
        except BaseException as error:
            self.error = error
            raise
        piece = self._left if count < 0 else self._left[:count]
        self._left = self._left[len(piece) :]
        return bytes(piece)

    def drain(self) -> None:
        for _ in self._chunks:
            pass


class _Target:
    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._take(bytes(data))
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is held here."""
