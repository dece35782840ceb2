"""Whom evidence is encrypted to: age X25519 public keys. The camera holds none of the private ones.

Format: https://age-encryption.org/v1. pyrage is an extra of the package and is imported only where it is needed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.encryption.stream import AgeStream
from agent.errors import EncryptionError

RECIPIENT_PATTERN = r"age1[02-9ac-hj-np-z]{58}"
"""Bech32 of 32 bytes (BIP 173), lower case, as age-keygen prints it."""

SEALED_UNIT_BYTES = 256
"""Sealed JSON is filled up to a multiple of this, so that its length does not give a name away."""

MISSING_PYRAGE = (
    'the package pyrage is missing; install it with: pip install "bodycam-agent[encryption]"'  # completes a sentence
)


def why_unfit(text: str) -> str | None:
    """Why a recipient cannot be used, as the end of a sentence; None when it can."""
    try:
        from pyrage import RecipientError, x25519
    except ImportError:
        return MISSING_PYRAGE
    try:
        # Half a surrogate pair, as an argument that is no UTF-8 becomes, cannot even be handed over.
        x25519.Recipient.from_str(text.encode("ascii", "replace").decode())
    except RecipientError as error:
        return f"{text} is no age public key ({error})"
    return None


class Recipients:
    """The keys that a camera is enrolled to encrypt to; each of them opens everything alone."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Raises EncryptionError for none, or one that is no X25519 recipient, or without pyrage."""
        if not texts:
            raise EncryptionError("There is no recipient to encrypt to.")
        for text in texts:
            if (why := why_unfit(text)) is not None:
                raise EncryptionError(f"Evidence cannot be encrypted: {why}.")
        from pyrage import x25519

        self.texts = tuple(texts)
        self._keys: list[Any] = [x25519.Recipient.from_str(text) for text in texts]

    def new_stream(self) -> AgeStream:
        """A new age file to these keys."""
        return AgeStream(self._keys)

    def seal(self, fields: Mapping[str, str]) -> str:
        """Fields that identify people as they stand in a record: base64 of an age file of a JSON object.

        The JSON is followed by spaces up to a multiple of SEALED_UNIT_BYTES.
        """
        import pyrage

        data = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        data += b" " * (-len(data) % SEALED_UNIT_BYTES)
        return base64.b64encode(pyrage.encrypt(data, self._keys)).decode("ascii")
