"""What each indication looks like and each cue sounds like, as data.

A light is one of
    off                                 dark
    COLOUR on                           lit without a break
    COLOUR blink ON OFF [ON OFF ...]    up to four flashes, then again from the start
COLOUR is red, green, blue, amber (red and green together) or white. A camera without the LEDs of a colour shows it on
those that it has.

A sound or vibration is one of
    (empty)                             nothing
    COUNT x ON [OFF]                    COUNT pulses of ON seconds, OFF seconds apart; OFF may be left out for one pulse

Times are decimal seconds. Examples: "green blink 0.1 1.9", "amber on", "2 x 0.1 0.1", "1 x 0.8".

The built-in table follows what wearers of other cameras know: green blink ready, red blink recording, amber for
"cannot record"; two short beeps for a start, one long for a stop, three for a full storage, five quick ones for an
unset clock. (Four far apart, for a storage that runs low, are our own.) Every indication also has a rhythm of its own,
so that it can be told by one who cannot tell red from green, or on a camera with a single LED. READY and RECORDING
blink: a light that has frozen because nothing runs claims neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from agent.clock import NS_PER_S
from agent.controller.signals import Cue, Indication
from agent.errors import ConfigError
from agent.settings.schema import PanelSettings, PatternSettings

_NUMBER = r"\d{1,3}(?:\.\d{1,3})?"
_LIGHT = re.compile(
    rf"(?P<colour>[a-z]+) (?:(?P<on>on)|blink (?P<steps>{_NUMBER} {_NUMBER}(?: {_NUMBER} {_NUMBER}){{0,3}}))"
)
_PULSES = re.compile(rf"(?P<count>\d{{1,2}}) x (?P<on>{_NUMBER})(?: (?P<off>{_NUMBER}))?")
_MOST_PULSES = 20
_SHORTEST_NS, _LONGEST_NS = NS_PER_S // 50, 5 * NS_PER_S
_A_LIGHT = '"off", "COLOUR on" or "COLOUR blink ON OFF" with red, green, blue, amber or white and 0.02 to 5 seconds'
_PULSES_WANTED = '"" or "COUNT x ON OFF" with 1 to 20 pulses of 0.02 to 5 seconds, such as "2 x 0.1 0.1" or "1 x 0.8"'


class Channel(Enum):
    """One LED, or one colour of an RGB LED."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"


_COLOURS = {
    "red": frozenset({Channel.RED}),
    "green": frozenset({Channel.GREEN}),
    "blue": frozenset({Channel.BLUE}),
    "amber": frozenset({Channel.RED, Channel.GREEN}),
    "white": frozenset(Channel),
}


@dataclass(frozen=True, slots=True)
class Light:
    """channels: what is lit; empty is dark. steps_ns: on, off, on, off … repeated; empty is without a break."""

    channels: frozenset[Channel] = frozenset()
    steps_ns: tuple[int, ...] = ()

    def on_channels(self, fitted: frozenset[Channel]) -> frozenset[Channel]:
        """The LEDs that show this light on a camera that has those `fitted`."""
        return self.channels & fitted or (fitted if self.channels else frozenset())

    def lit(self, elapsed_ns: int) -> bool:
        """Whether it is on, `elapsed_ns` after it was first shown."""
        return bool(self.channels) and self._step(elapsed_ns)[0] % 2 == 0

    def next_change_ns(self, elapsed_ns: int) -> int | None:
        """When, counted as `elapsed_ns` is, it changes next; None is never."""
        return None if not self.steps_ns else elapsed_ns + self._step(elapsed_ns)[1]

    def _step(self, elapsed_ns: int) -> tuple[int, int]:
        if not self.steps_ns:
            return 0, 0
        into_ns = elapsed_ns % sum(self.steps_ns)
        for index, step_ns in enumerate(self.steps_ns):
            if into_ns < step_ns:
                return index, step_ns - into_ns
            into_ns -= step_ns
        raise AssertionError("a remainder is always less than the sum it is the remainder of")


@dataclass(frozen=True, slots=True)
class Pulses:
    """count pulses of on_ns, off_ns apart; count 0 is silence."""

    count: int = 0
    on_ns: int = 0
    off_ns: int = 0

    @property
    def length_ns(self) -> int:
        """From the start of the first pulse to the end of the last."""
        return self.count * (self.on_ns + self.off_ns) - self.off_ns if self.count else 0

    def active(self, elapsed_ns: int) -> bool:
        """Whether it sounds, `elapsed_ns` after its start."""
        return 0 <= elapsed_ns < self.length_ns and elapsed_ns % (self.on_ns + self.off_ns) < self.on_ns

    def next_change_ns(self, elapsed_ns: int) -> int | None:
        """When it changes next, counted as `elapsed_ns` is; None once it is over."""
        if not self.count or elapsed_ns >= self.length_ns:
            return None
        if elapsed_ns < 0:
            return 0
        period_ns = self.on_ns + self.off_ns
        start_ns = elapsed_ns - elapsed_ns % period_ns
        return start_ns + (self.on_ns if elapsed_ns - start_ns < self.on_ns else period_ns)


@dataclass(frozen=True, slots=True)
class CuePattern:
    sound: Pulses
    vibration: Pulses

    @property
    def length_ns(self) -> int:
        return max(self.sound.length_ns, self.vibration.length_ns)


@dataclass(frozen=True, slots=True)
class Patterns:
    """The whole table: one entry for every member of Indication and Cue."""

    lights: dict[Indication, Light]
    cues: dict[Cue, CuePattern]


def _both(pulses: str) -> PatternSettings:
    return PatternSettings(sound=pulses, vibration=pulses)


BUILT_IN: dict[str, PatternSettings] = {
    Indication.STARTING.value: PatternSettings(light="amber blink 1 1"),
    Indication.READY.value: PatternSettings(light="green blink 0.1 1.9"),
    Indication.ACCEPTED.value: PatternSettings(light="red on"),
    Indication.RECORDING.value: PatternSettings(light="red blink 0.5 0.5"),
    Indication.RECORDING_UNSAFE.value: PatternSettings(light="red blink 0.1 0.1 0.1 0.1 0.1 0.5"),
    Indication.FINISHING.value: PatternSettings(light="red blink 0.9 0.1"),
    Indication.FAULT.value: PatternSettings(light="amber blink 0.25 0.25"),
    Indication.STOPPING.value: PatternSettings(light="amber blink 0.1 0.1 0.1 0.7"),
    Cue.START.value: _both("2 x 0.1 0.1"),
    Cue.REMINDER.value: _both("2 x 0.1 0.1"),
    Cue.MARKER.value: _both("1 x 0.1"),
    Cue.STOP.value: _both("1 x 0.8"),
    Cue.STORAGE_LOW.value: _both("4 x 0.1 0.3"),
    Cue.STORAGE_FULL.value: _both("3 x 0.2 0.2"),
    Cue.CLOCK_UNSET.value: _both("5 x 0.1 0.1"),
    Cue.FAULT.value: _both("3 x 0.8 0.2"),
    Cue.REFUSED.value: _both("8 x 0.1 0.05"),
}


def load_patterns(settings: PanelSettings, fitted: frozenset[Channel] = frozenset(Channel)) -> Patterns:
    """The built-in table with the entries of [panel.patterns] in place of its own, each replaced whole.

    Raises ConfigError for an unknown name, a notation error, or two indications that look alike on the LEDs `fitted`:
    the wearer must never take one state for another. Only dark entries may be alike, since dark claims nothing.
    """
    unknown = sorted(set(settings.patterns) - set(BUILT_IN))
    if unknown:
        raise ConfigError(
            f"[panel.patterns] has no entry named {unknown[0]!r}. Use one of: {', '.join(sorted(BUILT_IN))}."
        )
    table = BUILT_IN | settings.patterns
    lights = {indication: _indication(indication.value, table[indication.value]) for indication in Indication}
    cues = {cue: _cue(cue.value, table[cue.value]) for cue in Cue}
    for first in Indication:
        for second in Indication:
            if first is not second and fitted and not look_different(lights[first], lights[second], fitted):
                raise ConfigError(
                    f"[panel.patterns] {first.value!r} ({table[first.value].light!r}) and {second.value!r} "
                    f"({table[second.value].light!r}) look alike on the LEDs that are fitted "
                    f"({', '.join(sorted(channel.value for channel in fitted))}). Give one of them another rhythm."
                )
    return Patterns(lights, cues)


def look_different(first: Light, second: Light, fitted: frozenset[Channel]) -> bool:
    """Whether a person can tell them apart: by colour, by flashes a cycle, by pace (1.8 times) or by share lit (0.3).

    Two that are dark count as different.
    """
    colour, other = first.on_channels(fitted), second.on_channels(fitted)
    if not colour or not other:
        return True if not colour and not other else colour != other
    if colour != other or len(first.steps_ns) != len(second.steps_ns):
        return True
    if not first.steps_ns:
        return False
    cycles = sorted((sum(first.steps_ns), sum(second.steps_ns)))
    shares = [sum(light.steps_ns[::2]) / sum(light.steps_ns) for light in (first, second)]
    return cycles[1] >= 1.8 * cycles[0] or abs(shares[0] - shares[1]) >= 0.3


def parse_light(name: str, text: str) -> Light:
    """Read a light; `name` is the entry, for the ConfigError."""
    if text == "off":
        return Light()
    match = _LIGHT.fullmatch(text)
    if not match or match["colour"] not in _COLOURS:
        raise _wrong(name, "light", text, _A_LIGHT)
    steps = tuple(_time_ns(name, "light", text, number, _A_LIGHT) for number in (match["steps"] or "").split())
    return Light(_COLOURS[match["colour"]], steps)


def parse_pulses(name: str, key: str, text: str) -> Pulses:
    """Read a sound or vibration; `name` is the entry and `key` which of the two, for the ConfigError."""
    if not text:
        return Pulses()
    match = _PULSES.fullmatch(text)
    if not match or not 1 <= int(match["count"]) <= _MOST_PULSES or (int(match["count"]) > 1 and not match["off"]):
        raise _wrong(name, key, text, _PULSES_WANTED)
    on_ns, off_ns = (
        _time_ns(name, key, text, number, _PULSES_WANTED) if number else 0 for number in (match["on"], match["off"])
    )
    return Pulses(int(match["count"]), on_ns, off_ns)


def _indication(name: str, entry: PatternSettings) -> Light:
    for key, value in (("sound", entry.sound), ("vibration", entry.vibration)):
        if value:
            raise _wrong(name, key, value, "no sound or vibration: a lasting state has a light only")
    return parse_light(name, entry.light)


def _cue(name: str, entry: PatternSettings) -> CuePattern:
    if entry.light:
        raise _wrong(name, "light", entry.light, "no light: a cue has sound and vibration only")
    return CuePattern(parse_pulses(name, "sound", entry.sound), parse_pulses(name, "vibration", entry.vibration))


def _time_ns(name: str, key: str, text: str, number: str, wanted: str) -> int:
    time_ns = round(float(number) * NS_PER_S)
    if not _SHORTEST_NS <= time_ns <= _LONGEST_NS:
        raise _wrong(name, key, text, wanted)
    return time_ns


def _wrong(name: str, key: str, text: str, wanted: str) -> ConfigError:
    return ConfigError(f"[panel.patterns.{name}] {key} = {text!r} is not understood: expected {wanted}.")
