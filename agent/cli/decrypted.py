"""Encrypted segments on their way into an exported file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from agent.encryption.identity import Identities
from agent.errors import EncryptionError, EvidenceDamagedError
from agent.media.mp4 import whole_fragments_bytes
from agent.verify.index import VouchedFile, vouched_chunks


def append_decrypted(target: BinaryIO, folder: Path, file: VouchedFile, identities: Identities) -> None:
    """Append what a segment opens to, as far as the journal vouches for it.

    Of a recovered one also the whole fragments behind its last checkpoint, which the camera signed as it found them
    without being able to look into them. Raises EvidenceDamagedError when cipher- or plaintext is not what was signed,
    EncryptionError when the identity is another's, OSError from the target.
    """
    if file.plain is None:
        raise EvidenceDamagedError(f"{file.name} is not encrypted.")
    cipher = hashlib.sha256()
    start = target.tell()
    plain = _Plain(target, file.plain.bytes)
    unopened: EncryptionError | None = None
    try:
        identities.decrypt(_hashed(vouched_chunks(folder, file), cipher), plain.take)
    except EncryptionError as error:
        unopened = error
    if cipher.hexdigest() != file.sha256:
        raise EvidenceDamagedError(
            f"{folder / file.name} is not what the journal vouches for, so nothing was exported; run `bodycam verify` "
            "to see where."
        )
    if unopened is not None:
        if file.plain.bytes == 0:
            return  # cut before even its header was whole: there is nothing in it
        raise EncryptionError(f"{file.name} is as it was signed. {unopened}")
    as_signed = plain.missing_bytes == 0 and plain.vouched_sha256 == file.plain.sha256
    if not as_signed or (plain.rest_bytes and file.state != "recovered"):
        raise EvidenceDamagedError(
            f"What {folder / file.name} holds is not what the journal vouches for, so nothing was exported; run "
            "`bodycam verify --identity` to see where."
        )
    if file.state == "recovered":
        target.seek(start)
        keep_bytes = max(file.plain.bytes, whole_fragments_bytes(target))
        target.truncate(start + keep_bytes)
        target.seek(start + keep_bytes)


def _hashed(chunks: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


class _Plain:
    def __init__(self, target: BinaryIO, vouched_bytes: int) -> None:
        self._target = target
        self.missing_bytes = vouched_bytes
        """How much of what is vouched for has not opened."""
        self._sha256 = hashlib.sha256()
        self.rest_bytes = 0
        """How much opened behind what is vouched for."""

    def take(self, data: bytes) -> None:
        vouched = data[: self.missing_bytes]
        self.missing_bytes -= len(vouched)
        self._sha256.update(vouched)
        self.rest_bytes += len(data) - len(vouched)
        self._target.write(data)

    @property
    def vouched_sha256(self) -> str:
        """Of the vouched plaintext, as far as it opened."""
        return self._sha256.hexdigest()
