"""When samples were captured, out of how many there were and when they arrived.

A sound card counts samples with its own crystal and hands them over in bursts, some time after they were captured and
never before. So the arrival that was delayed least tells the truth, and the line through the least delayed arrivals is
the sound card's clock as seen on the boot clock. The line is slewed gently, because a jump is heard; it jumps only
where samples are missing (an overrun, suspend), and says so.
"""

from __future__ import annotations

from collections import deque

from agent.clock import NS_PER_MS, NS_PER_S

_PPM = 1_000_000


class AudioClock:
    """Capture times for blocks of samples that follow on one another. Pure: all time comes in as arguments.

    A block that arrives more than `jump_ns` later than the line says is either late (its reader was held up, and the
    rest comes in a rush) or comes after a hole. One block cannot tell, so such blocks, and those at the very start,
    stay in doubt until a block is back on the line (it was a stall: all keep the old line) or `settle_ns` have passed
    (it was a hole: all get a new line through the least delayed of them).

    Parameters:
        slew_ppm: fastest correction of the line; must exceed the drift of any real crystal (about 100 ppm).
        window_ns: how far back the least delayed arrival is looked for.
        jump_ns: lateness that raises doubt.
        early_ns: an arrival this much before the line is proof that the line is late, and it jumps back.
        persistent_ns: when even the least delayed arrival of a whole window is this late, samples are missing (a hole
            shorter than jump_ns), and the line jumps on.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        *,
        slew_ppm: int = 500,
        window_ns: int = 2 * NS_PER_S,
        jump_ns: int = 100 * NS_PER_MS,
        early_ns: int = 5 * NS_PER_MS,
        persistent_ns: int = 20 * NS_PER_MS,
        settle_ns: int = 200 * NS_PER_MS,
    ) -> None:
        self._rate = sample_rate_hz
        self._slew_ppm = slew_ppm
        self._window_ns = window_ns
        self._jump_ns = jump_ns
        self._early_ns = early_ns
        self._persistent_ns = persistent_ns
        self._settle_ns = settle_ns
        self._samples = 0
        self._offset_ns: int | None = None  # the line: boot time of sample 0
        self._line_since_ns = 0  # on the card's time axis
        self._delays: deque[tuple[int, int]] = deque()  # (card time, arrival - card time), rising: the least in front
        self._doubtful: list[tuple[int, int, int]] = []  # (first sample, card time of the end, arrival - card time)
        self._doubt_since_ns = 0
        self.jumps = 0

    @property
    def doubtful(self) -> int:
        """How many of the latest blocks have no time yet."""
        return len(self._doubtful)

    def place(self, samples: int, arrival_ns: int) -> list[int]:
        """A block of `samples` more samples was complete at boot time `arrival_ns`.

        Returns the capture times (boot ns of the first sample) of the oldest blocks that had none, in order: usually of
        exactly this one, none while in doubt, several when doubt ends.
        """
        first = self._samples
        self._samples += samples
        end_ns = self._card_ns(self._samples)
        delay_ns = arrival_ns - end_ns
        late_ns = 0 if self._offset_ns is None else delay_ns - self._offset_ns
        if self._offset_ns is None or late_ns > self._jump_ns:
            if not self._doubtful:
                self._doubt_since_ns = arrival_ns
            self._doubtful.append((first, end_ns, delay_ns))
            if arrival_ns - self._doubt_since_ns < self._settle_ns:
                return []
            return self._settle(min(delay for _, _, delay in self._doubtful))
        held = [self._card_ns(doubtful) + self._offset_ns for doubtful, _, _ in self._doubtful]
        self._doubtful.clear()
        self._remember(end_ns, delay_ns)
        self._follow(end_ns, self._card_ns(samples))
        return [*held, self._card_ns(first) + self._offset_ns]

    def _card_ns(self, samples: int) -> int:
        return samples * NS_PER_S // self._rate

    def _settle(self, offset_ns: int) -> list[int]:
        """Lay a new line; every block in doubt belongs to it."""
        if self._offset_ns is not None:
            self.jumps += 1
        self._offset_ns = offset_ns
        self._delays.clear()
        times = []
        for first, end_ns, delay_ns in self._doubtful:
            self._remember(end_ns, delay_ns)
            times.append(self._card_ns(first) + offset_ns)
            self._line_since_ns = end_ns
        self._doubtful.clear()
        return times

    def _remember(self, end_ns: int, delay_ns: int) -> None:
        while self._delays and self._delays[-1][1] >= delay_ns:
            self._delays.pop()
        self._delays.append((end_ns, delay_ns))
        while self._delays[0][0] < end_ns - self._window_ns:
            self._delays.popleft()

    def _follow(self, end_ns: int, length_ns: int) -> None:
        assert self._offset_ns is not None
        error_ns = self._delays[0][1] - self._offset_ns
        window_is_full = end_ns - self._line_since_ns >= self._window_ns
        if error_ns < -self._early_ns or (error_ns > self._persistent_ns and window_is_full):
            self._offset_ns += error_ns
            self._line_since_ns = end_ns
            self.jumps += 1
            return
        most_ns = length_ns * self._slew_ppm // _PPM
        self._offset_ns += max(-most_ns, min(most_ns, error_ns))
