"""What a signature covers of a GOP: one hash for each NAL unit, and one over all of them.

ONVIF Media Signing Specification 26.06, "Signing a GOP": h0 = H(first slice of the IDR picture) is the anchor, every
other slice counts as H(h0 || H(slice)), a SEI of the specification without a signature as H(SEI); the GOP hash is the
hash of that list. H is SHA-256. Emulation prevention bytes are hashed as they stand.
"""

from __future__ import annotations

from hashlib import sha256

HASH_BYTES = 32
MAX_NAL_UNITS = 0xFFFF
"""The count in a SEI has 16 bits."""


class GopHashes:
    """The list of one GOP, in stream order. Begins empty; the first slice added becomes the anchor."""

    def __init__(self) -> None:
        self._hashes: list[bytes] = []
        self._anchor: bytes | None = None

    def __len__(self) -> int:
        return len(self._hashes)

    def add_slice(self, unit: bytes | memoryview) -> None:
        """A slice's NAL unit, header to stop bit."""
        digest = sha256(unit).digest()
        if self._anchor is None:
            self._anchor = digest
        else:
            digest = sha256(self._anchor + digest).digest()
        self._hashes.append(digest)

    def add_unsigned_sei(self, unit: bytes | memoryview) -> bytes:
        """A SEI of the specification that has no signature of its own; returns its hash."""
        digest = sha256(unit).digest()
        self._hashes.append(digest)
        return digest

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """One for each NAL unit."""
        return tuple(self._hashes)

    @property
    def listed(self) -> bytes:
        """All hashes, one behind the other."""
        return b"".join(self._hashes)

    @property
    def first(self) -> bytes:
        """What the next GOP's SEI links to. Raises IndexError while there is none."""
        return self._hashes[0]

    @property
    def gop_hash(self) -> bytes:
        """The hash of the list."""
        return sha256(self.listed).digest()
