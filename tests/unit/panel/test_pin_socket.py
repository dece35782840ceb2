"""The bench's far side: what a script presses reaches the pin, what the pins show reaches the script."""

from __future__ import annotations

import json
import queue
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gpiozero.pins.mock import MockFactory

from agent.cli.main import main
from agent.cli.press import press
from agent.clock import SimulatedClock
from agent.controller.gestures import Gesture, GestureKind, GestureState, next_deadline_ns, step
from agent.controller.signals import Indication
from agent.errors import ConfigError, PanelError
from agent.panel.button import ButtonInput, open_trigger_inputs
from agent.panel.panel import Panel
from agent.panel.pin_client import PinChange, PinSocketClient
from agent.panel.pin_socket import PinSocketServer
from agent.panel.pins import BenchFactory
from agent.settings.schema import GestureSettings, GpioSettings, PanelSettings, Settings
from tests.unit.panel.conftest import MOCK

MS = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pins.sock"


@pytest.fixture
def gpio(path: Path) -> GpioSettings:
    return replace(MOCK, bench_pin_socket_path=str(path))


@pytest.fixture
def server(factory: BenchFactory, gpio: GpioSettings, path: Path, clock: SimulatedClock) -> Iterator[PinSocketServer]:
    server = PinSocketServer(gpio, factory, clock)
    server.start()
    yield server
    server.close()
    server.close()
    assert not path.exists()


@pytest.fixture
def edges(
    factory: BenchFactory, gpio: GpioSettings, clock: SimulatedClock
) -> Iterator[queue.Queue[tuple[int, bool, int]]]:
    """What the record button and the trigger inputs hand over, in order."""
    edges: queue.Queue[tuple[int, bool, int]] = queue.Queue()
    button = ButtonInput(
        factory,
        gpio.record_button_pin,
        True,
        lambda pressed, at: edges.put((gpio.record_button_pin, pressed, at)),
        clock,
    )
    inputs = open_trigger_inputs(factory, gpio, lambda pin, at_ns: edges.put((pin, True, at_ns)), clock)
    yield edges
    for opened in (button, *inputs):
        opened.close()


@pytest.fixture
def client(server: PinSocketServer, path: Path, clock: SimulatedClock) -> Iterator[PinSocketClient]:
    assert server
    with PinSocketClient(path, sleep=lambda s: clock.advance_ns(round(s * 1000) * MS)) as client:
        yield client


@pytest.fixture
def raw(server: PinSocketServer, path: Path) -> Iterator[socket.socket]:
    assert server
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        yield connection


def lines_of(connection: socket.socket, count: int) -> list[str]:
    """Read that many lines; a further one must not be there, which the answer to a last `pins` proves."""
    connection.sendall(b"pins\n")
    text = b""
    while text.count(b"\n") < count + 1:
        data = connection.recv(4096)
        assert data, "hung up"
        text += data
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == count + 1
    return text.decode().splitlines()[:count]


def drained(edges: queue.Queue[tuple[int, bool, int]]) -> list[tuple[int, bool, int]]:
    return [edges.get_nowait() for _ in range(edges.qsize())]


def gestures_of(edges: list[tuple[int, bool, int]]) -> list[GestureKind]:
    state, settings = GestureState(), GestureSettings()
    found: list[Gesture] = []
    for _, pressed, at_ns in edges:
        state, gestures = step(state, settings, at_ns, pressed, at_ns)
        found += gestures
    while (due := next_deadline_ns(state, settings)) is not None:
        state, gestures = step(state, settings, due, None)
        found += gestures
    return [gesture.kind for gesture in found]


def test_fingers_on_the_far_side_make_gestures(
    client: PinSocketClient, edges: queue.Queue[tuple[int, bool, int]], clock: SimulatedClock
) -> None:
    client.double_press()
    assert gestures_of(drained(edges)) == [GestureKind.DOUBLE]
    clock.advance_ns(5000 * MS)
    client.hold(3.2)
    assert gestures_of(drained(edges)) == [GestureKind.HOLD]
    client.single_press()
    assert gestures_of(drained(edges)) == [GestureKind.SINGLE]


@pytest.mark.parametrize(
    ("gesture", "hold_s", "kinds"),
    [
        ("double", None, [GestureKind.DOUBLE]),
        ("single", None, [GestureKind.SINGLE]),
        ("hold", None, [GestureKind.HOLD]),
        ("hold", 0.2, [GestureKind.SINGLE]),
    ],
)
@pytest.mark.usefixtures("server")
def test_the_command_presses_what_it_says(
    gpio: GpioSettings,
    edges: queue.Queue[tuple[int, bool, int]],
    clock: SimulatedClock,
    gesture: str,
    hold_s: float | None,
    kinds: list[GestureKind],
) -> None:
    settings = Settings(profile="bench", gpio=gpio)
    assert press(settings, gesture, hold_s, sleep=lambda s: clock.advance_ns(round(s * 1000) * MS)) == 0
    assert gestures_of(drained(edges)) == kinds


def test_the_command_says_where_there_is_nothing_to_press(
    gpio: GpioSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for settings in (Settings(gpio=gpio), Settings(profile="bench", gpio=MOCK)):
        with pytest.raises(ConfigError, match="Only the button of a bench camera"):
            press(settings, "double")
    with pytest.raises(SystemExit) as ended:
        main(["press", "double", "-p", "bench", "--set", f"gpio.bench_pin_socket_path={tmp_path / 'none.sock'}"])
    assert ended.value.code == 69
    assert "Start `bodycam run`" in capsys.readouterr().err
    for wrong in (["triple"], ["hold", "0"], ["hold", "long"], ["hold", "nan"]):
        with pytest.raises(SystemExit) as ended:
            main(["press", *wrong, "-p", "bench"])
        assert ended.value.code == 2


def test_trigger_inputs_are_pressed_by_number(
    client: PinSocketClient, edges: queue.Queue[tuple[int, bool, int]]
) -> None:
    client.press(6)
    client.release("6")
    assert [(pin, active) for pin, active, _ in drained(edges)] == [(6, True)]


def test_a_button_to_3v3_is_driven_the_other_way(factory: BenchFactory, path: Path, clock: SimulatedClock) -> None:
    gpio = GpioSettings("mock", button_pull_up=False, bench_pin_socket_path=str(path))
    server = PinSocketServer(gpio, factory, clock)
    server.start()
    with PinSocketClient(path) as client:
        client.press()
        assert client.pins()[gpio.record_button_pin] == 1
        client.release()
        assert client.pins()[gpio.record_button_pin] == 0
    server.close()


def test_watching_tells_what_is_and_then_what_changes(
    client: PinSocketClient, factory: BenchFactory, gpio: GpioSettings, clock: SimulatedClock
) -> None:
    panel = Panel(gpio, PanelSettings(), factory, clock, threaded=False)
    panel.show(Indication.READY)
    watching, other = client.watch(), client.watch()
    for seen in (watching, other):
        now = {change.name: change.level for change in (next(seen) for _ in range(5))}
        assert now == {"led_red": 0, "led_green": 1, "led_blue": 0, "buzzer": 0, "vibration": 0}
    clock.advance_ns(50 * MS)
    panel.show(Indication.ACCEPTED)
    at = clock.boottime_ns()
    clock.advance_ns(50 * MS)
    for seen in (watching, other):
        changes = sorted((next(seen) for _ in range(2)), key=lambda change: change.pin)
        assert changes == [PinChange(at, 22, "led_red", 1), PinChange(at, 23, "led_green", 0)]
    watching.close()  # type: ignore[attr-defined]  # a generator
    panel.show(Indication.READY)
    assert {next(other).name, next(other).name} == {"led_red", "led_green"}
    other.close()  # type: ignore[attr-defined]
    panel.close()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"press",
        b"press 17 18",
        b"PRESS 17",
        b"press 22",
        b"press -1",
        b"press 99",
        "press ²".encode(),
        b"press \xff\xfe",
        b"\xff\x00",
        b"hold 3",
        b"x" * 257,
        b"y" * 100_000,
    ],
    ids=lambda line: repr(line[:12]),
)
def test_a_malformed_line_gets_one_error_and_loses_nothing(
    raw: socket.socket, edges: queue.Queue[tuple[int, bool, int]], line: bytes
) -> None:
    raw.sendall(b"press record\n" + line + b"\nrelease record\n")
    first, error, last = lines_of(raw, 3)
    assert (first, last) == ("ok", "ok")
    assert error.startswith("error: ")
    assert [pressed for _, pressed, _ in drained(edges)] == [True, False]


def test_lines_come_in_any_pieces(raw: socket.socket, edges: queue.Queue[tuple[int, bool, int]]) -> None:
    for byte in b"press record\nrelease record\r\n":
        raw.sendall(bytes([byte]))
    assert lines_of(raw, 2) == ["ok", "ok"]
    assert len(drained(edges)) == 2


def test_one_who_hangs_up_in_mid_line_disturbs_nobody(
    raw: socket.socket, path: Path, edges: queue.Queue[tuple[int, bool, int]]
) -> None:
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(path))
        rude.sendall(b"watch\npress rec")
    raw.sendall(b"press record\n")
    assert lines_of(raw, 1) == ["ok"]
    assert len(drained(edges)) == 1


def test_a_watcher_that_never_reads_is_dropped_and_the_others_are_served(
    raw: socket.socket, client: PinSocketClient, factory: BenchFactory, gpio: GpioSettings, clock: SimulatedClock
) -> None:
    raw.sendall(b"watch\n")
    panel = Panel(gpio, PanelSettings(), factory, clock, threaded=False)
    try:
        for _ in range(60):
            for _ in range(100):
                panel.show(Indication.READY)
                panel.show(Indication.ACCEPTED)
            client.pins()
        total = 0
        while data := raw.recv(1 << 16):
            total += len(data)
        assert total < 2_000_000
        assert client.pins()[22] == 1
    finally:
        panel.close()


def test_pins_in_use_are_listed(raw: socket.socket) -> None:
    raw.sendall(b"pins\n")
    levels = json.loads(lines_of(raw, 1)[0])
    assert set(levels) == {"5", "6", "17", "22", "23", "24", "25", "27"}


def test_a_server_that_was_never_started_closes_too(factory: BenchFactory, gpio: GpioSettings, path: Path) -> None:
    PinSocketServer(gpio, factory, SimulatedClock()).close()
    assert not path.exists()


def test_the_socket_is_for_its_owner_only(server: PinSocketServer, path: Path) -> None:
    assert server
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_real_pins_are_refused(gpio: GpioSettings, path: Path, clock: SimulatedClock) -> None:
    factory = MockFactory()  # not made for the bench, as an LGPIOFactory is not
    with pytest.raises(PanelError, match="drives mock pins only"):
        PinSocketServer(gpio, factory, clock)
    assert not path.exists()


def test_paths_that_cannot_be_are_sentences(
    server: PinSocketServer,
    factory: BenchFactory,
    gpio: GpioSettings,
    tmp_path: Path,
    path: Path,
    clock: SimulatedClock,
) -> None:
    assert server
    for wrong in (path, tmp_path / "missing" / "pins.sock", tmp_path / ("x" * 120)):
        with pytest.raises(PanelError, match="bench_pin_socket_path"):
            PinSocketServer(replace(gpio, bench_pin_socket_path=str(wrong)), factory, clock)
    assert path.exists(), "the one that is in use is left alone"


def test_a_socket_left_by_a_killed_process_is_replaced(
    factory: BenchFactory, gpio: GpioSettings, path: Path, clock: SimulatedClock
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = PinSocketServer(gpio, factory, clock)
    server.start()
    with PinSocketClient(path) as client:
        client.press()
    server.close()


def test_what_the_client_is_refused_is_a_sentence(client: PinSocketClient, tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"refused: expected record or one of the input pins \[5, 6, 17\]"):
        client.press(22)
    with pytest.raises(PanelError, match="Nobody answers at the pin socket"):
        PinSocketClient(tmp_path / "nobody.sock", timeout_s=0)
