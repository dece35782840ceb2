"""Whether GOPs get their signatures: one fault for as long as they do not, whatever becomes of camera sessions.

A key that is slower than the pictures signs every other GOP for hours, and one that hangs outlives the camera session
in which it began: neither may make a fault out of each GOP, nor be forgotten with the session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

STREAM_SIGNER = "stream-signer"
"""The component, as records name it; "signer" is the one that signs the journal."""
CLEARED_AFTER_GOPS = 5
"""Signed in a row, before a fault counts as over."""


class SigningWatch:
    """Takes the outcome of every GOP of every session, on the capture thread; may be read on any."""

    def __init__(self, on_fault: Callable[[str], None], on_cleared: Callable[[int], None]) -> None:
        """on_fault(message): GOPs go unsigned from here on. on_cleared(unsigned_gops): so many did. Must not block."""
        self._on_fault = on_fault
        self._on_cleared = on_cleared
        self._signed_in_a_row = 0
        self._unsigned_gops: int | None = None
        self._message = ""

    @property
    def fault(self) -> str | None:
        """What is wrong and how many GOPs it cost so far, for people; None when nothing is."""
        unsigned_gops = self._unsigned_gops
        if unsigned_gops is None:
            return None
        return f"{self._message} So far {unsigned_gops} GOPs have no signature of their own."

    def unfinished(self) -> dict[str, Any] | None:
        """Fields of a `fault` record at the end of a run whose fault has no end that would say what it cost."""
        if self._unsigned_gops is None:
            return None
        message = "The video was not signed in itself up to the end of this run."
        return {"component": STREAM_SIGNER, "message": message, "unsigned_gops": self._unsigned_gops}

    def answered(self, refusal: str | None) -> None:
        """A GOP has its signature (None), or has none because of this."""
        if refusal is not None:
            self._signed_in_a_row = 0
            begins = self._unsigned_gops is None
            self._unsigned_gops = (self._unsigned_gops or 0) + 1
            if begins:
                self._message = f"The video is not signed in itself: {refusal}"
                self._on_fault(self._message)
        elif self._unsigned_gops is not None:
            self._signed_in_a_row += 1
            if self._signed_in_a_row >= CLEARED_AFTER_GOPS:
                unsigned_gops, self._unsigned_gops = self._unsigned_gops, None
                self._on_cleared(unsigned_gops)

    def session_ended(self, waiting_gops: int) -> None:
        """A camera session is over, with GOPs that still waited for their signatures and will have none.

        Of a healthy key that is the newest or two, as the format says; only a fault counts them.
        """
        if self._unsigned_gops is not None:
            self._unsigned_gops += waiting_gops
