"""Reads a signed stream and says of each GOP whether it is what was signed, in memory that does not grow.

ONVIF Media Signing Specification 26.06. GOPs are recognised by their hashes, not by where they stand, so that a GOP
that was dropped, moved or changed is named itself and does not take those behind it along. Order is then checked by
counter and linked hash. What the stream cannot tell: that its end was cut off, what its sound and times were.

A picture that does not change, as behind a covered lens, makes GOPs that are the same to the byte. Which of them a
signature is for cannot be told when the stream begins so, between the GOPs and their signatures; nor need it: each is
vouched for, and a place that turns out to be another one later is no contradiction, as long as there is a signature
for every GOP in between. Once so many different GOPs were recognised in a row that no such mistake is left, nothing of
that holds any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from agent.signing.finding import GopFinding, GopState, StreamReport
from agent.signing.gop import HASH_BYTES, MAX_NAL_UNITS, GopHashes
from agent.signing.key import StreamKey
from agent.signing.nal import IDR_SLICE, NON_IDR_SLICE, SEI, UNCOVERED_PICTURE_TYPES, NalUnit, is_first_slice
from agent.signing.read_gop import Content, ReadGop, StraySei, content_of, difference, is_of
from agent.signing.sei import GopStatement, MediaSigningSei, SeiError, parse_sei

MAX_PENDING_GOPS = 8
"""As many GOPs at the end may lack a signature: our signer gives one up, unsigned, when a fifth is waiting; that makes
five; the GOP that carries its SEI waits as well, and a slow signer takes two more."""
_MAX_SHIFTED_GOPS = 6
"""How far the place of the first signatures may be mistaken: as many were on their way when the stream was cut out."""
_WINDOW_GOPS = 64
_WINDOW_HASHES = 2 * MAX_NAL_UNITS
_COUNTER_MODULUS = 1 << 32


class StreamReader:
    """For one stream. Pictures go in in the order of the file; findings come out in the order of the GOPs."""

    def __init__(self) -> None:
        self.report = StreamReport()
        self._key = StreamKey()
        self._window: deque[ReadGop] = deque()
        self._open: ReadGop | None = None
        self._strays: deque[StraySei] = deque(maxlen=_WINDOW_GOPS)
        # Number of the GOP that was recognised last, and its counter.
        self._anchor: tuple[int, int] | None = None
        self._first_hashes: dict[int, bytes] = {}
        self._contents: dict[int, Content] = {}
        self._recognised: set[Content] = set()
        self._shifted = 0
        self._number = 0

    def picture(
        self, data: bytes | memoryview, units: list[NalUnit], media_time_s: float | None
    ) -> Iterator[GopFinding]:
        """One access unit, split. Yields the findings that have become final with it."""
        for unit in units:
            if unit.type == SEI:
                self._sei(bytes(data[unit.start : unit.end]))
            elif unit.type in (NON_IDR_SLICE, IDR_SLICE):
                self._slice(data, unit, media_time_s)
            elif unit.type in UNCOVERED_PICTURE_TYPES:
                self._current(media_time_s).problem = "It has pictures in a form that no signature covers."
        yield from self._final()

    def unreadable(self, reason: str, media_time_s: float | None) -> Iterator[GopFinding]:
        """An access unit that could not be split."""
        self._current(media_time_s).problem = f"It has a picture that is no H.264: {reason}"
        yield from self._final()

    def end(self) -> Iterator[GopFinding]:
        """Nothing follows. Yields what is left; the report is complete afterwards."""
        self._close()
        for gop in self._window:
            if gop.state is None and gop.carrier is None:
                self._explain(gop, at_end=True)
        self._settle_carried()
        for gop in self._window:
            if gop.state is None:
                self._settle_uncovered(gop)
        self.report.chain, self.report.vendor = self._key.chain, self._key.vendor
        yield from self._final()

    # -- GOPs -------------------------------------------------------------------------------------------------

    def _current(self, media_time_s: float | None) -> ReadGop:
        if self._open is None:
            self._number += 1
            self._open = ReadGop(self._number, media_time_s, GopHashes())
        return self._open

    def _slice(self, data: bytes | memoryview, unit: NalUnit, media_time_s: float | None) -> None:
        first = is_first_slice(data, unit)
        if unit.type == IDR_SLICE and first:
            self._close()
        gop = self._current(media_time_s)
        if not len(gop.hashes) and unit.type != IDR_SLICE:
            gop.problem = "It begins without a keyframe."
        gop.frames += first
        if len(gop.hashes) >= MAX_NAL_UNITS:
            gop.problem = f"It has more than {MAX_NAL_UNITS} slices."
            return
        gop.hashes.add_slice(memoryview(data)[unit.start : unit.end])

    def _close(self) -> None:
        gop, self._open = self._open, None
        if gop is None:
            return
        if len(gop.hashes):
            gop.gop_hash = gop.hashes.gop_hash
            self._first_hashes[gop.number] = gop.hashes.first
            self._first_hashes.pop(gop.number - 2 * _WINDOW_GOPS, None)
            self._contents[gop.number] = gop.gop_hash, len(gop.hashes)
            self._contents.pop(gop.number - 2 * _WINDOW_GOPS, None)
        self._window.append(gop)
        for stray in [stray for stray in self._strays if stray.ends(gop)]:
            self._strays.remove(stray)
            if gop.state is None:
                self._apply(gop, stray.statement, stray.problem, None)
        self._explain_overdue()
        self._bound_memory()

    def _explain_overdue(self) -> None:
        """Of what stands before the GOP that was recognised first: its own signature may come behind that one's."""
        for gop in self._window:
            if self._anchor is None or gop.number >= min(self._anchor[0], self._number - MAX_PENDING_GOPS):
                return
            if gop.state is None and gop.carrier is None:
                self._explain(gop, at_end=False)

    def _bound_memory(self) -> None:
        # Of all that waits, also behind one that is not settled: what is settled leaves only in its turn.
        left, hashes = len(self._window), sum(len(gop.hashes) for gop in self._window)
        for oldest in list(self._window)[:-1]:
            if left <= _WINDOW_GOPS and hashes <= _WINDOW_HASHES:
                return
            left, hashes = left - 1, hashes - len(oldest.hashes)
            if oldest.state is None and oldest.carrier is None:
                self._explain(oldest, at_end=False)
            elif oldest.state is None:
                oldest.settle(GopState.UNCOVERED, "Its SEI has no signature, and none came in time to cover it.")

    def _final(self) -> Iterator[GopFinding]:
        while self._window and (state := self._window[0].state) is not None:
            gop = self._window.popleft()
            finding = GopFinding(gop.number, gop.start_s, gop.frames, state, gop.reason)
            self.report.add(finding)
            yield finding

    # -- signatures -------------------------------------------------------------------------------------------

    def _sei(self, unit: bytes) -> None:
        try:
            sei = parse_sei(unit)
        except SeiError:
            self.report.seis += 1
            return  # whatever it was to say, it does not: the GOP it was for stays without a signature
        if sei is None:
            return
        self.report.seis += 1
        statement = sei.statement
        if sei.signature is not None:
            problem = self._key.problem(sei)
            if statement is not None:
                self._recognise(sei, statement, problem, carrier=None)
        elif statement is not None and self._open is not None and len(self._open.hashes) < MAX_NAL_UNITS:
            self._open.hashes.add_unsigned_sei(unit)
            self._recognise(sei, statement, None, carrier=self._open.number)

    def _recognise(
        self, sei: MediaSigningSei, statement: GopStatement, problem: str | None, carrier: int | None
    ) -> None:
        if statement.partial:
            problem = problem or "It is signed in parts, which this reader does not take."
        expected = self._expected(statement)
        alike = [gop for gop in self._window if gop.state is None and gop.carrier is None and is_of(gop, statement)]
        if alike:
            self._apply(next((gop for gop in alike if gop.number == expected), alike[0]), statement, problem, carrier)
            return
        is_next = self._anchor is not None and expected is not None and expected > self._anchor[0]
        if (
            problem is None
            and expected is not None
            and is_next
            and self._contents.get(expected) == content_of(statement)
        ):
            # It was vouched for already, by the signature of another one that is the same.
            self._anchor = expected, statement.counter
            return
        if carrier is not None:
            problem = problem or "Its SEI has no signature."
        seen_in = self._open.number if self._open is not None else self._number
        units_before = len(self._open.hashes) if self._open is not None else 0
        self._strays.append(StraySei(statement, sei.hash_list, problem, seen_in, units_before))
        if problem is None:
            self._misplaced(statement)

    def _expected(self, statement: GopStatement) -> int | None:
        """Number of the GOP that a signature is for, by its counter; None while nothing was recognised."""
        if self._anchor is None:
            return None
        ahead = (statement.counter - self._anchor[1]) % _COUNTER_MODULUS
        return self._anchor[0] + (ahead if ahead < _COUNTER_MODULUS // 2 else ahead - _COUNTER_MODULUS)

    def _apply(self, gop: ReadGop, statement: GopStatement, problem: str | None, carrier: int | None) -> None:
        """Believe, or not, the SEI that has a GOP's hash."""
        if problem is not None:
            gop.settle(GopState.INVALID, problem)
            return
        for earlier in self._window:
            if earlier is gop or self._anchor is None:
                break
            if earlier.state is None and earlier.carrier is None:
                self._explain(earlier, at_end=False)
        order = self._order_problem(gop, statement)
        if self._anchor is not None and gop.number < self._anchor[0]:
            self._doubt_behind(gop)
        self._anchor = (gop.number, statement.counter)
        if order is None and len(self._recognised) <= _MAX_SHIFTED_GOPS:
            self._recognised.add(content_of(statement))
        if order is not None:
            gop.settle(GopState.INVALID, order)
        elif carrier is not None:
            gop.carrier = carrier
        else:
            gop.settle(GopState.VALID)
            self._note_time(gop, statement)
            self._settle_carried()

    def _doubt_behind(self, gop: ReadGop) -> None:
        """What was recognised before a GOP in front of it took another one's signature: its own has yet to come."""
        for behind in self._window:
            if behind.number > gop.number and behind.state is GopState.VALID:
                behind.state, behind.reason = None, ""

    @property
    def _is_certain(self) -> bool:
        """Whether which GOP a signature is for is beyond mistaking: too many different ones were in their places."""
        return len(self._recognised) > _MAX_SHIFTED_GOPS

    def _note_time(self, gop: ReadGop, statement: GopStatement) -> None:
        if gop.state is GopState.VALID:
            if self.report.first_utc_ns is None:
                self.report.first_utc_ns = statement.start_utc_ns
            self.report.last_utc_ns = statement.end_utc_ns

    def _misplaced(self, statement: GopStatement) -> None:
        """A genuine SEI of a GOP that was signed before the one recognised last stands here a second time."""
        if self._anchor is None or self._open is None:
            return
        behind = (self._anchor[1] - statement.counter) % _COUNTER_MODULUS
        # The very last one may be repeated ("redundancy"); older ones were taken from elsewhere in the stream.
        if 0 < behind < _COUNTER_MODULUS // 2:
            self._open.problem = f"It carries the signature of a GOP {behind} before the last one signed."

    def _order_problem(self, gop: ReadGop, statement: GopStatement) -> str | None:
        if self._anchor is None:
            return None
        number, counter = self._anchor
        ahead = (statement.counter - counter - (gop.number - number)) % _COUNTER_MODULUS
        if ahead and not self._is_repetition(gop, statement, ahead):
            if ahead < _COUNTER_MODULUS // 2:
                return f"{ahead} GOPs are missing before it."
            return "It was signed earlier than its place says: GOPs were moved or added before it."
        before = self._first_hashes.get(gop.number - 1)
        if not ahead and number == gop.number - 1 and before is not None and before != statement.linked_hash:
            return "It was signed behind another GOP than the one before it."
        return None

    def _is_repetition(self, gop: ReadGop, statement: GopStatement, ahead: int) -> bool:
        """Whether those between have their own signatures, and were vouched for by those of GOPs that are the same."""
        if self._is_certain or ahead + self._shifted > _MAX_SHIFTED_GOPS:
            return False
        between: list[StraySei] = []
        for back in range(1, ahead + 1):
            if gop.number - back < 1:
                break  # before the beginning
            counter = (statement.counter - back) % _COUNTER_MODULUS
            own = next((stray for stray in self._strays if stray.statement.counter == counter), None)
            if own is None or own.problem or self._contents.get(gop.number - back) != content_of(own.statement):
                return False
            between.append(own)
        for own in between:
            self._strays.remove(own)
        self._shifted += ahead
        return True

    def _settle_carried(self) -> None:
        states = {gop.number: gop.state for gop in self._window}
        for gop in reversed(self._window):  # a carrier stands behind what it carries
            if gop.state is not None or gop.carrier is None:
                continue
            carrier = states.get(gop.carrier)
            if carrier is GopState.VALID:
                gop.settle(GopState.VALID)
            elif carrier is GopState.UNCOVERED:
                gop.settle(GopState.UNCOVERED, "Its SEI has no signature, and none came to cover it.")
            elif carrier is not None and carrier is not GopState.PENDING:
                gop.settle(GopState.UNSIGNED, f"Its SEI has no signature, and GOP {gop.carrier}, which has it, is bad.")
            states[gop.number] = gop.state

    def _settle_uncovered(self, gop: ReadGop) -> None:
        """At the end: a GOP whose SEI would be covered by a signature that the stream ends before."""
        if gop.number > self._number - MAX_PENDING_GOPS:
            gop.settle(GopState.PENDING, "The stream ends before a signature covers it.")
        else:
            gop.settle(GopState.UNCOVERED, "Its SEI has no signature, and none came to cover it.")

    def _explain(self, gop: ReadGop, *, at_end: bool) -> None:
        """Settle a GOP whose hash no SEI has."""
        stray = self._stray_of(gop)
        if stray is not None:
            gop.settle(*difference(gop, stray))
        elif at_end and self._anchor is None and self._contradicted(gop):
            gop.settle(GopState.INVALID, "The stream has signatures, and none of them is for what stands here.")
        elif at_end and gop.number > self._number - MAX_PENDING_GOPS and self._may_wait(gop):
            gop.settle(GopState.PENDING, "The stream ends before its signature.")
        else:
            gop.settle(GopState.UNSIGNED, "No signature in the stream is for it.")

    def _may_wait(self, gop: ReadGop) -> bool:
        """Whether its signature can be yet to come. In front of one that has its own, only if they were mistaken."""
        if self._anchor is None or gop.number > self._anchor[0]:
            return True
        first = self._first_hashes.get(gop.number)
        return not self._is_certain and any(
            number != gop.number and other == first for number, other in self._first_hashes.items()
        )

    def _contradicted(self, gop: ReadGop) -> bool:
        # In a stream that was cut, the first signatures are for what was cut off; two GOPs later they no longer are.
        return any(stray.problem is None and stray.seen_in >= gop.number + 2 for stray in self._strays)

    def _stray_of(self, gop: ReadGop) -> StraySei | None:
        # Counting from behind would go wrong where GOPs are gone in between.
        place = self._anchor
        expected = None if place is None else (place[1] + gop.number - place[0]) % _COUNTER_MODULUS
        first = gop.hashes.first if len(gop.hashes) else None
        before = {self._contents.get(gop.number - back) for back in range(1, _MAX_SHIFTED_GOPS + 1)}
        for stray in self._strays:
            if not self._is_certain and content_of(stray.statement) in before:
                continue  # it is for one of those, which was vouched for by another one's
            # Signatures are made of GOPs that are complete, and stand in a later one.
            begins_alike = stray.seen_in > gop.number and stray.hash_list[:HASH_BYTES] == first
            if stray.statement.counter == expected or (first is not None and begins_alike):
                return stray
        return None
