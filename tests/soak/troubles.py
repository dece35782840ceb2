"""What goes wrong in a shift: each trouble has a part that it befalls, one at a time, a length, and an end."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from agent.capture.synthetic import Spoil
from agent.clock import NS_PER_MS, NS_PER_S
from tests.soak.camera_life import CameraLife

MEAN_PAUSE_S = 75.0
MEAN_STEP_S = 120.0
YEAR_NS = 365 * 86_400 * NS_PER_S
SHORT_OF_ROOM_BYTES = 9_000_000
"""A little over what is kept for the journal: minutes at most."""
SLEW_PPM = 500


class Troubles:
    """Plans them on a life. pace: see Wearer. The rng decides all."""

    def __init__(self, life: CameraLife, rng: random.Random, pace: float) -> None:
        self._life = life
        self._rng = rng
        self._pace = pace
        self._busy: set[str] = set()
        self._well_since_s = 0.0
        self._year = 0
        self._over = False
        self._kinds: tuple[tuple[str, str, Callable[[], None]], ...] = (
            ("camera", "unplugged", self._unplugged),
            ("camera", "frozen", self._frozen),
            ("camera", "covered", lambda: self._spoiled(Spoil.COVERED)),
            ("camera", "white", lambda: self._spoiled(Spoil.WHITE)),
            ("camera", "one picture again and again", lambda: self._spoiled(Spoil.SAME)),
            ("sound", "gone", self._silent),
            ("card", "one error", lambda: self._card_fails(errno.EIO, 1, 3)),
            ("card", "errors in a row", lambda: self._card_fails(errno.EIO, self._rng.randint(2, 6), 20)),
            ("card", "dead for a while", lambda: self._card_fails(errno.EIO, None, self._rng.uniform(5, 40))),
            ("card", "dead for longer than memory lasts", lambda: self._card_fails(errno.EIO, None, 90)),
            ("card", "read-only", lambda: self._card_fails(errno.EROFS, None, self._rng.uniform(3, 20))),
            ("card", "no space left", lambda: self._card_fails(errno.ENOSPC, None, self._rng.uniform(3, 30))),
            ("card", "full", self._full),
            ("card", "exchanged", self._exchanged),
            ("card", "stalls", self._stalls),
            ("signer", "gone", self._signer_gone),
            ("signer", "busy", self._signer_busy),
            ("machine", "stands still", self._stands_still),
            ("machine", "suspended", self._suspended),
        )

    def begin(self) -> None:
        """From now on."""
        self._next()
        self._next_step()

    def end(self) -> None:
        """Mend everything; nothing new begins."""
        self._over = True
        life = self._life
        life.card.heal()
        life.card.free = life.card.kill_in = None
        life.put_card_back()
        life.bench.storage_held = False
        life.signer.gone = life.signer.busy = False
        life.set_camera(unplugged=False, frozen=False)
        life.set_sound(silent=False)
        life.spoil(None)

    def restart(self, kind: str) -> bool:
        """End the process ("kill", "kill-in-operation", "stop", "reboot"), or False while a card in trouble forbids it.

        What a camera has in memory only, because its card is dead, a kill takes; that is no news.
        """
        if self._over or "card" in self._busy or self._life.now_s - self._well_since_s < 15:
            return False
        match kind:
            case "kill":
                self._life.kill()
            case "kill-in-operation":
                self._life.card.kill_in = self._rng.randint(1, 15)
                number = self._life.number
                self._befall("card", 20, lambda: self._kill_at_last(number))
            case "stop":
                self._life.stop()
            case _:
                self._life.reboot()
        return True

    def _kill_at_last(self, number: int) -> None:
        self._life.card.kill_in = None
        if self._life.number == number and not self._over:  # it wrote too little to be killed at it
            self._life.kill()

    # -- when -------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        self._life.after(self._rng.expovariate(1 / (MEAN_PAUSE_S * self._pace)), self._trouble)

    def _trouble(self) -> None:
        part, name, begin = self._rng.choice(self._kinds)
        if part not in self._busy and not self._over:
            self._life.story.count(f"fault: {part} {name}")
            begin()
        self._next()

    def _befall(self, part: str, seconds: float, end: Callable[[], None]) -> None:
        def over() -> None:
            end()
            self._busy.discard(part)
            if part == "card":
                self._well_since_s = self._life.now_s

        self._busy.add(part)
        self._life.after(seconds, over)

    # -- what -------------------------------------------------------------------------------------------------

    def _unplugged(self) -> None:
        self._life.set_camera(unplugged=True)
        self._befall("camera", self._rng.uniform(1, 25), lambda: self._life.set_camera(unplugged=False))

    def _frozen(self) -> None:
        self._life.set_camera(frozen=True)
        self._befall("camera", self._rng.uniform(0.2, 8), lambda: self._life.set_camera(frozen=False))

    def _spoiled(self, how: Spoil) -> None:
        self._life.spoil(how)
        self._befall("camera", self._rng.uniform(5, 40), lambda: self._life.spoil(None))

    def _silent(self) -> None:
        self._life.set_sound(silent=True)
        self._befall("sound", self._rng.uniform(1, 50), lambda: self._life.set_sound(silent=False))

    def _card_fails(self, error: int, times: int | None, seconds: float) -> None:
        self._life.card.error, self._life.card.failing = error, times
        self._befall("card", seconds, self._life.card.heal)

    def _full(self) -> None:
        self._life.card.free = SHORT_OF_ROOM_BYTES

        def offloaded() -> None:
            self._life.card.free = None

        self._befall("card", self._rng.uniform(10, 60), offloaded)

    def _exchanged(self) -> None:
        self._life.exchange_card()
        self._befall("card", self._rng.uniform(1, 40), self._life.put_card_back)

    def _stalls(self) -> None:
        """The storage thread hangs; everything else goes on. A start meanwhile has a storage thread of its own."""
        bench = self._life.bench
        bench.storage_held = True

        def goes_on() -> None:
            bench.storage_held = False

        self._befall("card", self._rng.choice((0.3, 2.0, 10.0, 25.0)), goes_on)

    def _signer_gone(self) -> None:
        self._life.signer.gone = True

        def back() -> None:
            self._life.signer.gone = False

        self._befall("signer", self._rng.uniform(1, 40), back)

    def _signer_busy(self) -> None:
        self._life.signer.busy = True

        def idle() -> None:
            self._life.signer.busy = False

        self._befall("signer", self._rng.uniform(1, 40), idle)

    def _stands_still(self) -> None:
        """In the next operation of the card: frames come late, and some never."""
        self._life.card.stall_ns = self._rng.randint(100, 3000) * NS_PER_MS

    def _suspended(self) -> None:
        self._life.clock_stands(round(self._rng.choice((0.8, 5.0, 60.0, 300.0)) * self._pace * NS_PER_S))

    # -- the time of day --------------------------------------------------------------------------------------

    def _next_step(self) -> None:
        self._life.after(self._rng.expovariate(1 / (MEAN_STEP_S * self._pace)), self._step)

    def _step(self) -> None:
        clock, story = self._life.clock, self._life.story
        match self._rng.choice(("year", "year", "hour", "small", "slew", "lost")):
            case "year":
                # There and back: beyond the life of its certificate a camera's records are rightly refused.
                by = -self._year if self._year else self._rng.choice((1, -1))
                self._year += by
                clock.step_wall_ns(by * YEAR_NS)
                story.count(f"clock: {by:+d} year")
            case "hour":
                clock.step_wall_ns(self._rng.choice((1, -1)) * 3600 * NS_PER_S)
                story.count("clock: an hour")
            case "small":
                clock.step_wall_ns(self._rng.choice((1, -1)) * 700 * NS_PER_MS)
                story.count("clock: 0.7 s")
            case "slew":
                story.count("clock: slewed")
                self._slew(20)
            case _:
                story.count("clock: lost")
                self._lose()
        self._next_step()

    def _slew(self, tenths_left: int) -> None:
        self._life.clock.step_wall_ns(SLEW_PPM * NS_PER_S // 1_000_000 // 10)
        if tenths_left:
            self._life.after(0.1, lambda: self._slew(tenths_left - 1))

    def _lose(self) -> None:
        """1970, and nothing that would know better; then a time server."""
        clock = self._life.clock
        if clock.source != "ntp":
            return
        back_ns = clock.utc_ns() - self._rng.randrange(60) * NS_PER_S
        clock.source, clock.uncertainty_ms = "unsynchronised", None
        clock.step_wall_ns(-back_ns)

        def found() -> None:
            now = self._life.clock
            now.source, now.uncertainty_ms = "ntp", 20
            now.step_wall_ns(back_ns)

        self._life.after(self._rng.uniform(5, 60) * self._pace, found)
