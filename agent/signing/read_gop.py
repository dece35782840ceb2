"""What a reader of a signed stream knows of one GOP, of one signature that fits none, and how the two differ."""

from __future__ import annotations

from dataclasses import dataclass

from agent.signing.finding import GopState
from agent.signing.gop import HASH_BYTES, GopHashes
from agent.signing.sei import GopStatement

Content = tuple[bytes, int]
"""Hash of a GOP and how many units are in it: all that a signature tells of what is in it."""


@dataclass(slots=True, eq=False)
class ReadGop:
    """eq=False: two GOPs are never the same. carrier: number of the GOP whose signature covers this one's SEI."""

    number: int
    start_s: float | None
    hashes: GopHashes
    frames: int = 0
    gop_hash: bytes = b""
    problem: str | None = None
    carrier: int | None = None
    state: GopState | None = None
    reason: str = ""

    def settle(self, state: GopState, reason: str = "") -> None:
        """Say what it is; a problem of its own outweighs everything."""
        if self.problem is not None:
            state, reason = GopState.INVALID, self.problem
        self.state, self.reason = state, reason


@dataclass(frozen=True, slots=True)
class StraySei:
    """A SEI that fits no GOP that was there when it came. problem: why it is not to be believed.

    seen_in: number of the GOP that it stands in; units_before: how many units of that one stand before it.
    """

    statement: GopStatement
    hash_list: bytes
    problem: str | None
    seen_in: int
    units_before: int

    def ends(self, gop: ReadGop) -> bool:
        """Whether it stands directly in front of the next IDR picture, which is what ends its GOP."""
        return (self.seen_in, self.units_before) == (gop.number, len(gop.hashes)) and is_of(gop, self.statement)


def content_of(statement: GopStatement) -> Content:
    return statement.gop_hash, statement.nal_units


def is_of(gop: ReadGop, statement: GopStatement) -> bool:
    return gop.gop_hash == statement.gop_hash and len(gop.hashes) == statement.nal_units


def difference(gop: ReadGop, stray: StraySei) -> tuple[GopState, str]:
    """How a GOP differs from what its SEI says it is."""
    if stray.problem is not None:
        return GopState.INVALID, stray.problem
    listed = stray.hash_list
    if len(listed) != stray.statement.nal_units * HASH_BYTES:
        return GopState.INVALID, "It is not what was signed; its signature has no list to say where."
    expected = [listed[at : at + HASH_BYTES] for at in range(0, len(listed), HASH_BYTES)]
    found = gop.hashes.hashes
    remaining = iter(expected)
    for digest in found:
        if not any(digest == candidate for candidate in remaining):
            return GopState.INVALID, "Its pictures are not those that were signed."
    missing = len(expected) - len(found)
    if not missing:
        return GopState.INVALID, "Its signature stands in the wrong place."
    return GopState.MISSING, "Pictures that were signed are missing in it, or parts of them."
