"""The notation, the built-in table, and that no two states can be taken for each other."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controller.signals import Cue, Indication
from agent.errors import ConfigError
from agent.panel.patterns import (
    BUILT_IN,
    Channel,
    Light,
    Pulses,
    load_patterns,
    look_different,
    parse_light,
    parse_pulses,
)
from agent.settings.schema import PanelSettings, PatternSettings

MS = 1_000_000
R, G, B = Channel.RED, Channel.GREEN, Channel.BLUE
TABLE = load_patterns(PanelSettings())


def test_every_indication_and_cue_has_an_entry() -> None:
    assert set(BUILT_IN) == {member.value for member in (*Indication, *Cue)}


@pytest.mark.parametrize(
    "leds",
    [leds for count in (1, 2, 3) for leds in combinations(Channel, count)],
    ids=lambda leds: " ".join(led.value for led in leds),
)
def test_all_indications_look_different_on_any_camera(leds: tuple[Channel, ...]) -> None:
    fitted = frozenset(leds)
    for first, second in combinations(Indication, 2):
        assert look_different(TABLE.lights[first], TABLE.lights[second], fitted), f"{first} and {second}"


def test_all_indications_are_lit_and_what_means_alive_blinks() -> None:
    assert all(light.channels for light in TABLE.lights.values())
    assert TABLE.lights[Indication.READY].steps_ns
    assert TABLE.lights[Indication.RECORDING].steps_ns


def test_no_light_flashes_more_than_three_times_in_any_second() -> None:
    for light in TABLE.lights.values():
        starts = [at for at in range(0, 6000, 10) if light.lit(at * MS) and (at == 0 or not light.lit((at - 10) * MS))]
        assert all(sum(at <= other < at + 1000 for other in starts) <= 3 for at in starts)


def test_field_conventions() -> None:
    assert TABLE.lights[Indication.READY].channels == {G}
    assert TABLE.lights[Indication.RECORDING].channels == {R}
    assert TABLE.lights[Indication.FAULT].channels == {R, G}
    assert TABLE.cues[Cue.START] == TABLE.cues[Cue.REMINDER]
    counts = {cue: TABLE.cues[cue].sound.count for cue in (Cue.START, Cue.STOP, Cue.STORAGE_FULL, Cue.CLOCK_UNSET)}
    assert counts == {Cue.START: 2, Cue.STOP: 1, Cue.STORAGE_FULL: 3, Cue.CLOCK_UNSET: 5}
    assert TABLE.cues[Cue.STOP].sound.on_ns >= 5 * TABLE.cues[Cue.MARKER].sound.on_ns


def test_cues_sound_different_unless_they_mean_the_same() -> None:
    for first, second in combinations(set(Cue) - {Cue.REMINDER}, 2):
        one, other = TABLE.cues[first].sound, TABLE.cues[second].sound
        pace = max(one.on_ns, other.on_ns) / min(one.on_ns, other.on_ns)
        assert one.count != other.count or pace >= 3, f"{first} and {second}"


@pytest.mark.parametrize(
    ("text", "light"),
    [
        ("off", Light()),
        ("amber on", Light(frozenset({R, G}))),
        ("white on", Light(frozenset({R, G, B}))),
        ("green blink 0.1 1.9", Light(frozenset({G}), (100 * MS, 1900 * MS))),
        ("blue blink 1 1 0.25 5", Light(frozenset({B}), (1000 * MS, 1000 * MS, 250 * MS, 5000 * MS))),
    ],
)
def test_lights_are_read(text: str, light: Light) -> None:
    assert parse_light("ready", text) == light


@pytest.mark.parametrize(
    "text",
    [
        *("", "on", "red", "pink on", "Red on", "red  on", " red on", "red on ", "red on 1", "off 1", "red off"),
        *("red blink", "red blink 1", "red blink 1 1 1", "red blink 0.01 1", "red blink 1 5.1", "red blink -1 1"),
        *(
            "red blink 1e0 1",
            "red blink nan 1",
            "red blink .5 1",
            "red blink 1 1s",
            "red blink 1,0 1",
            "red blink 1 1\n",
        ),
        "red blink 1 1 1 1 1 1 1 1 1 1",
    ],
)
def test_lights_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"\[panel.patterns.ready\] light = .*expected.*COLOUR blink") as refusal:
        parse_light("ready", text)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "pulses"),
    [
        ("", Pulses()),
        ("1 x 0.8", Pulses(1, 800 * MS)),
        ("2 x 0.1 0.2", Pulses(2, 100 * MS, 200 * MS)),
    ],
)
def test_pulses_are_read(text: str, pulses: Pulses) -> None:
    assert parse_pulses("start", "sound", text) == pulses


@pytest.mark.parametrize(
    "text",
    ["2", "2 x", "2 x 0.1", "0 x 0.1 0.1", "21 x 0.1 0.1", "2x 0.1 0.1", "1 x 0.8 ", "1 x 6", "1 x 0", "2 x 1 1 1"],
)
def test_pulses_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"\[panel.patterns.start\] vibration = .*COUNT x ON OFF"):
        parse_pulses("start", "vibration", text)


def overridden(**entries: PatternSettings) -> PanelSettings:
    return PanelSettings(patterns={name.replace("_", "-"): entry for name, entry in entries.items()})


def test_an_entry_is_replaced_whole() -> None:
    table = load_patterns(overridden(stop=PatternSettings(sound="1 x 2"), ready=PatternSettings(light="blue on")))
    assert table.cues[Cue.STOP].sound == Pulses(1, 2000 * MS)
    assert table.cues[Cue.STOP].vibration == Pulses()
    assert table.lights[Indication.READY] == Light(frozenset({B}))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"redy": PatternSettings(light="red on")}, "no entry named 'redy'.*ready"),
        ({"ready": PatternSettings(sound="1 x 1", light="blue on")}, "has a light only"),
        ({"start": PatternSettings(light="red on")}, "sound and vibration only"),
        ({"ready": PatternSettings()}, "light = ''"),
        ({"ready": PatternSettings(light="red blink 0.6 0.5")}, "'ready'.*'recording'.*look alike"),
        ({"accepted": PatternSettings(light="red blink 0.5 0.5")}, "'accepted'.*'recording'.*look alike"),
    ],
)
def test_overrides_that_mislead_are_refused(entries: dict[str, PatternSettings], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_patterns(PanelSettings(patterns=entries))


def test_a_colour_that_is_not_fitted_does_not_make_a_difference() -> None:
    settings = overridden(ready=PatternSettings(light="green blink 0.5 0.5"))
    load_patterns(settings, frozenset({R, G}))
    with pytest.raises(ConfigError, match=r"look alike on the LEDs that are fitted \(red\)"):
        load_patterns(settings, frozenset({R}))


def test_dark_may_be_chosen_for_several() -> None:
    table = load_patterns(overridden(ready=PatternSettings(light="off"), recording=PatternSettings(light="off")))
    assert not table.lights[Indication.RECORDING].lit(0)


steps = st.lists(st.integers(20, 5000), min_size=1, max_size=4).flatmap(
    lambda ons: st.tuples(*(st.tuples(st.just(on), st.integers(20, 5000)) for on in ons))
)


@given(pairs=steps, at=st.integers(0, 10**12))
def test_a_light_changes_exactly_when_it_says(pairs: tuple[tuple[int, int], ...], at: int) -> None:
    light = Light(frozenset({R}), tuple(step * MS for pair in pairs for step in pair))
    change = light.next_change_ns(at)
    assert change is not None
    assert change > at
    assert light.lit(change - 1) == light.lit(at) != light.lit(change)


@given(count=st.integers(1, 20), on=st.integers(1, 300), off=st.integers(1, 300), at=st.integers(-100, 20_000))
def test_pulses_change_exactly_when_they_say(count: int, on: int, off: int, at: int) -> None:
    pulses = Pulses(count, on, off)
    change = pulses.next_change_ns(at)
    if change is None:
        assert not any(pulses.active(later) for later in (at, at + 1, at + on, at + off))
    else:
        assert pulses.active(change - 1) == pulses.active(at) != pulses.active(change)
    starts = [t for t in range(0, pulses.length_ns + 1, 1) if pulses.active(t) and not pulses.active(t - 1)][
        : count + 1
    ]
    assert len(starts) == count
