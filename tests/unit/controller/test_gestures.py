"""The gesture recogniser: exact cases first, then properties over random wearers and random contacts."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.controller.contact import ContactState, feel
from agent.controller.gestures import Gesture, GestureKind, GestureState, next_deadline_ns, resync, step
from agent.settings.schema import GestureSettings

MS = 1_000_000
START_NS = 1_000_000 * MS
SETTINGS = GestureSettings()
Edge = tuple[int, bool]


def run(
    edges: list[Edge],
    settings: GestureSettings = SETTINGS,
    *,
    at_deadlines: bool = True,
    extra_ns: tuple[int, ...] = (),
    delivered_late_ns: int = 0,
) -> list[Gesture]:
    """Feed edges (boot time, level) and return every gesture, having let all time pass at the end.

    at_deadlines: wake up at each deadline, as the daemon does; otherwise only edges and the end move time on.
    delivered_late_ns: each edge arrives that much after its own time, while deadlines are met on time.
    """
    state = GestureState()
    found: list[Gesture] = []
    stops: list[tuple[int, bool | None, int | None]] = [(at + delivered_late_ns, level, at) for at, level in edges]
    stops += [(at, None, None) for at in extra_ns]
    stops.append((max(at for at, _, _ in stops) + 60_000 * MS if stops else START_NS, None, None))
    for now, level, at in sorted(stops, key=lambda stop: stop[0]):
        while at_deadlines and (due := next_deadline_ns(state, settings)) is not None and due < now:
            state, gestures = step(state, settings, due, None)
            found += gestures
        state, gestures = step(state, settings, now, level, at)
        found += gestures
    assert next_deadline_ns(state, settings) is None or edges[-1][1]
    return found


def presses(*spans_ms: tuple[int, int]) -> list[Edge]:
    """Clean edges of presses given as (down, up) in ms."""
    return [edge for down, up in spans_ms for edge in ((START_NS + down * MS, True), (START_NS + up * MS, False))]


def told(gestures: list[Gesture]) -> list[tuple[str, int]]:
    """Kind and time in ms from the start."""
    return [(gesture.kind.value, (gesture.at_ns - START_NS) // MS) for gesture in gestures]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([(0, 100)], [("single", 0)], id="single"),
        pytest.param([(0, 100), (300, 400)], [("double", 300)], id="double"),
        pytest.param([(0, 100), (599, 650)], [("double", 599)], id="double, last moment"),
        pytest.param([(0, 100), (600, 700)], [("single", 0), ("single", 600)], id="too slow for a double"),
        pytest.param([(0, 5000)], [("hold", 3000)], id="hold"),
        pytest.param([(0, 3000)], [("hold", 3000)], id="hold, last moment"),
        pytest.param([(0, 2999)], [("single", 0)], id="let go too early"),
        pytest.param([(0, 1500)], [("single", 0)], id="long press"),
        pytest.param([(0, 100), (300, 9000)], [("double", 300)], id="double press kept down stops nothing"),
        pytest.param([(0, 100), (300, 400), (600, 700)], [("double", 300)], id="triple is one double"),
        pytest.param([(0, 100), (300, 400), (600, 9000)], [("double", 300)], id="third of three held stops nothing"),
        pytest.param([(n, n + 100) for n in range(0, 9000, 300)], [("double", 300)], id="mashing is one double"),
        pytest.param(
            [(0, 100), (300, 400), (900, 1000)], [("double", 300), ("single", 900)], id="a marker after a start"
        ),
        pytest.param(
            [(0, 100), (300, 400), (900, 1000), (1200, 1300)],
            [("double", 300), ("double", 1200)],
            id="two doubles",
        ),
        pytest.param([(0, 100), (300, 400), (1000, 4500)], [("double", 300), ("hold", 4000)], id="start, then stop"),
        pytest.param([(0, 3500), (3600, 3700), (3800, 3900)], [("hold", 3000), ("double", 3800)], id="stop, start"),
        pytest.param([(0, 3500), (3600, 3700)], [("hold", 3000), ("single", 3600)], id="a hold begins no double"),
    ],
)
def test_what_presses_mean(spans: list[tuple[int, int]], expected: list[tuple[str, int]]) -> None:
    assert told(run(presses(*spans))) == expected


def test_double_is_known_at_the_second_press_edge_itself() -> None:
    state = GestureState()
    found: tuple[Gesture, ...] = ()
    for at, level in presses((0, 100))[:2]:
        state, found = step(state, SETTINGS, at, level)
        assert found == ()
    second = START_NS + 250 * MS
    state, found = step(state, SETTINGS, second, True)
    assert found == (Gesture(GestureKind.DOUBLE, second, (START_NS, START_NS + 100 * MS, second)),)


def test_hold_is_known_while_still_down_and_only_once() -> None:
    state, _ = step(GestureState(), SETTINGS, START_NS, True)
    state, _ = step(state, SETTINGS, START_NS + 2999 * MS, None)
    assert next_deadline_ns(state, SETTINGS) == START_NS + 3000 * MS
    state, found = step(state, SETTINGS, START_NS + 3000 * MS, None)
    assert found == (Gesture(GestureKind.HOLD, START_NS + 3000 * MS, (START_NS,)),)
    assert next_deadline_ns(state, SETTINGS) is None
    _, found = step(state, SETTINGS, START_NS + 20_000 * MS, None)
    assert found == ()


def test_single_waits_for_a_second_press_but_no_longer() -> None:
    state = GestureState()
    for at, level in presses((0, 100)):
        state, _ = step(state, SETTINGS, at, level)
    state, found = step(state, SETTINGS, START_NS + 599 * MS, None)
    assert found == ()
    _, found = step(state, SETTINGS, START_NS + 600 * MS, None)
    assert found == (Gesture(GestureKind.SINGLE, START_NS, (START_NS, START_NS + 100 * MS)),)


def test_a_contact_that_chatters_in_mid_hold_is_still_a_hold() -> None:
    edges = [(0, True), (200, False), (212, True), (1500, False), (1501, True), (2995, False), (3005, True)]
    edges.append((4000, False))
    assert told(run([(START_NS + at * MS, level) for at, level in edges])) == [("hold", 3000)]


def test_a_release_just_before_the_hold_is_no_hold_although_it_settles_after_it() -> None:
    assert told(run(presses((0, 2990)))) == [("single", 0)]


def test_a_press_shorter_than_the_debounce_counts() -> None:
    assert told(run(presses((0, 5)))) == [("single", 0)]
    assert told(run(presses((0, 5), (200, 205)))) == [("double", 200)]


def test_a_button_held_down_at_start_means_nothing_until_it_is_pressed_anew() -> None:
    assert run([(START_NS, False)]) == []


def test_a_second_press_delivered_after_the_window_still_starts() -> None:
    late = run(presses((0, 100), (500, 600)), delivered_late_ns=150 * MS)
    assert told(late) == [("single", 0), ("double", 500)]


def test_release_bounce_delivered_after_its_window_is_no_second_press() -> None:
    state = GestureState()
    found: list[Gesture] = []
    script: list[tuple[int, bool | None, int]] = [
        (0, True, 0),
        (100, False, 100),
        (120, None, 0),  # the window of the release ends before its bounce is delivered
        (130, True, 101),
        (131, False, 102),
        (151, None, 0),
        (2000, None, 0),
    ]
    for now, level, at in script:
        edge = None if level is None else START_NS + at * MS
        state, gestures = step(state, SETTINGS, START_NS + now * MS, level, edge)
        found += gestures
    assert told(found) == [("single", 0)]


def test_edges_out_of_order_are_clamped_not_believed() -> None:
    state, _ = step(GestureState(), SETTINGS, START_NS + 10 * MS, True, START_NS + 10 * MS)
    state, _ = step(state, SETTINGS, START_NS + 100 * MS, False, START_NS + 4 * MS)
    _, found = step(state, SETTINGS, START_NS + 5000 * MS, None)
    assert [edge - START_NS for edge in found[0].edges_ns] == [10 * MS, 10 * MS]


def test_an_edge_from_the_future_is_taken_as_now() -> None:
    state, _ = step(GestureState(), SETTINGS, START_NS, True, START_NS + 900 * MS)
    _, found = step(state, SETTINGS, START_NS + 3000 * MS, None)
    assert told(list(found)) == [("hold", 3000)]


def test_a_lost_release_found_by_reading_the_pin_never_becomes_a_hold() -> None:
    state, _ = step(GestureState(), SETTINGS, START_NS, True)
    state, found = resync(state, SETTINGS, START_NS + 3000 * MS, False)
    _, later = resync(state, SETTINGS, START_NS + 3100 * MS, False)
    assert [gesture.kind for gesture in (*found, *later)] == [GestureKind.SINGLE]


def test_reading_the_pin_agrees_with_the_edges_otherwise() -> None:
    state, _ = step(GestureState(), SETTINGS, START_NS, True)
    assert resync(state, SETTINGS, START_NS + 3000 * MS, True) == step(state, SETTINGS, START_NS + 3000 * MS, None)
    state, found = resync(GestureState(), SETTINGS, START_NS, True)
    assert next_deadline_ns(state, SETTINGS) is not None
    assert found == ()


# Properties. A wearer presses cleanly for at least the debounce time and pauses as long; the contact adds its own.

settings_of = st.builds(
    GestureSettings,
    debounce_ms=st.integers(1, 200),
    double_press_ms=st.integers(200, 1500),
    hold_ms=st.integers(1000, 10_000),
)


@st.composite
def wearers(draw: st.DrawFn) -> tuple[GestureSettings, list[tuple[int, int]]]:
    settings = draw(settings_of)
    length = st.integers(settings.debounce_ms, 400) | st.integers(settings.debounce_ms, 12_000)
    spans, at = [], 0
    for down, gap in draw(st.lists(st.tuples(length, length), max_size=8)):
        # Contact bounce right at the hold time leaves open which of the two it was.
        assume(abs(down - settings.hold_ms) > settings.debounce_ms)
        spans.append((at, at + down))
        at += down + gap
    return settings, spans


@st.composite
def bounced(draw: st.DrawFn, edges: list[Edge], debounce_ns: int) -> list[Edge]:
    """The same edges with a bounce train of up to debounce_ns after each."""
    out: list[Edge] = []
    for at, level in edges:
        out.append((at, level))
        offsets = sorted(draw(st.sets(st.integers(1, debounce_ns - 1), max_size=6)))
        for index, offset in enumerate(offsets[: len(offsets) // 2 * 2]):
            out.append((at + offset, level if index % 2 else not level))
    return out


def meaning(spans: list[tuple[int, int]], settings: GestureSettings) -> list[tuple[str, int]]:
    """The rules once more, told over whole presses with hindsight instead of over edges."""
    told_, first, run_at = [], None, None
    for index, (down, up) in enumerate(spans):
        if run_at is not None and down - run_at < settings.double_press_ms:
            run_at = down
        elif first is not None and down - first < settings.double_press_ms:
            told_.append(("double", down))
            first, run_at = None, down
        elif up - down >= settings.hold_ms:
            told_.append(("hold", down + settings.hold_ms))
            first, run_at = None, None
        else:
            first, run_at = down, None
            following = spans[index + 1][0] if index + 1 < len(spans) else None
            if following is None or following - down >= settings.double_press_ms:
                told_.append(("single", down))
    return told_


@given(data=st.data(), wearer=wearers())
def test_any_presses_with_any_bounce_mean_what_the_rules_say(
    data: st.DataObject, wearer: tuple[GestureSettings, list[tuple[int, int]]]
) -> None:
    settings, spans = wearer
    edges = presses(*spans)
    noisy = data.draw(bounced(edges, settings.debounce_ms * MS))
    assert told(run(edges, settings)) == meaning(spans, settings)
    assert told(run(noisy, settings)) == meaning(spans, settings)


@given(data=st.data(), settings=settings_of)
def test_every_double_press_is_recognised_once_at_its_second_edge(
    data: st.DataObject, settings: GestureSettings
) -> None:
    # The second: as the configuration's loader refuses anything else.
    assume(2 * settings.debounce_ms < settings.double_press_ms < settings.hold_ms)
    second = data.draw(st.integers(2 * settings.debounce_ms, settings.double_press_ms - 1))
    first_up = data.draw(st.integers(settings.debounce_ms, second - settings.debounce_ms))
    second_up = second + data.draw(st.integers(settings.debounce_ms, 20_000))
    noisy = data.draw(bounced(presses((0, first_up), (second, second_up)), settings.debounce_ms * MS))
    state, when = GestureState(), []
    for at, level in noisy:
        state, found = step(state, settings, at, level)
        when += [(gesture.kind, at, gesture.at_ns) for gesture in found]
    second_ns = START_NS + second * MS
    assert when == [(GestureKind.DOUBLE, second_ns, second_ns)]


edges_of = st.lists(st.tuples(st.integers(1, 4_000 * MS), st.booleans()), max_size=30).map(
    lambda gaps: [(START_NS + sum(gap for gap, _ in gaps[: index + 1]), level) for index, (_, level) in enumerate(gaps)]
)


@given(edges=edges_of, settings=settings_of, extra=st.lists(st.integers(0, 60_000 * MS), max_size=20))
def test_cutting_time_into_more_steps_changes_nothing(
    edges: list[Edge], settings: GestureSettings, extra: list[int]
) -> None:
    once = run(edges, settings, at_deadlines=False)
    assert run(edges, settings) == once
    assert run(edges, settings, extra_ns=tuple(START_NS + at for at in extra)) == once


@given(edges=edges_of, settings=settings_of, late_ns=st.integers(0, 300 * MS))
def test_no_press_has_two_meanings(edges: list[Edge], settings: GestureSettings, late_ns: int) -> None:
    found = run(edges, settings, delivered_late_ns=late_ns)
    downs = {at for at, level in edges if level}
    seen_in: dict[int, list[GestureKind]] = {}
    for gesture in found:
        assert (
            len(gesture.edges_ns) == {GestureKind.HOLD: 1, GestureKind.SINGLE: 2, GestureKind.DOUBLE: 3}[gesture.kind]
        )
        assert list(gesture.edges_ns) == sorted(gesture.edges_ns)
        for press in gesture.edges_ns[::2]:
            assert press in downs, "a gesture needs a press"
            seen_in.setdefault(press, []).append(gesture.kind)
    for kinds in seen_in.values():
        # Delivered late, a SINGLE may be followed by the DOUBLE it was the first press of; nothing else ever repeats.
        allowed = [GestureKind.SINGLE, GestureKind.DOUBLE] if late_ns else kinds[:1]
        assert len(kinds) == 1 or kinds == allowed


@given(times=st.lists(st.integers(0, 10_000 * MS), max_size=10), levels=st.lists(st.just(False), max_size=10))
def test_no_gesture_without_a_press(times: list[int], levels: list[bool]) -> None:
    edges: list[Edge] = [(START_NS + at, level) for at, level in zip(sorted(times), levels, strict=False)]
    assert run(edges, extra_ns=tuple(START_NS + at for at in times)) == []


def test_a_contact_clamps_edges_for_every_caller() -> None:
    state, _ = feel(ContactState(), 20 * MS, START_NS, True, START_NS)
    state, _ = feel(state, 20 * MS, START_NS + 5 * MS, False, START_NS - 9 * MS)
    assert state.raw_edge_ns == START_NS
