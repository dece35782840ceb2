"""The body camera in the box, as its wearer meets it: a button, a light, a card. And as the bench meets it: a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.rig.machine import Machine
from tests.rig.qemu import RigError

RECORD_PIN = 17
RED_PIN, GREEN_PIN, BLUE_PIN, BUZZER_PIN, VIBRATION_PIN = 22, 23, 24, 25, 27
"""As config/bodycam.toml has them when nobody sets anything."""

CARD = "/var/lib/bodycam/card"
VAULT = f"{CARD}/vault"
MEMORY = "/var/lib/bodycam/memory"
"""Other flash than the card."""
STORE = "/media/bodycam-store"
CONTROL_SOCKET = "/run/bodycam/control.sock"
DOUBLE_PRESS_MS = 600
"""gestures.double_press_ms, as it is when nobody sets it."""
DEBOUNCE_MS = 20
"""gestures.debounce_ms, likewise."""
PRESSES = 20
HOLD_MS = 1500
"""As in guest/bodycam.toml."""

_WATCH_EVERY_MS = 30
READY_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A change that was seen, and when by the guest's boot clock."""

    boottime_ns: int
    value: Any


class Camera:
    """The device on a machine. Nothing of it runs before `start`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.machine.__exit__(kind, error, trace)

    def be_another_boot(self) -> None:
        """After a warm start: each is a boot of its own, and must not pass for the one that was saved."""
        self.machine.run(
            "cat /proc/sys/kernel/random/uuid >/run/rig/boot_id;"
            " mount --bind /run/rig/boot_id /proc/sys/kernel/random/boot_id"
        )

    def insert_card(self) -> None:
        """Mount the card, and the device's other flash; the kernel replays their journals. Raises GuestError."""
        self.machine.run(f"mount {CARD}; mountpoint -q {MEMORY} || mount {MEMORY}; mountpoint -q {CARD}")

    def mount_store(self) -> None:
        """Mount the dock's disk."""
        self.machine.run(f"mount {STORE}")

    def start(self) -> None:
        """Start the daemon, and watch light and status from now on."""
        self.machine.run("systemctl start --no-block bodycam.service")
        self.watch()

    def watch(self) -> None:
        """Have light and status told from now on, beginning with how they are."""
        self.machine.hand.ask("watch", pins=[RED_PIN, GREEN_PIN], socket_path=CONTROL_SOCKET, every_ms=_WATCH_EVERY_MS)

    def stop(self, timeout_s: float = 90) -> None:
        """SIGTERM, and wait for its end."""
        self.machine.run("systemctl stop bodycam.service", timeout_s=timeout_s)

    def start_offload(self) -> None:
        """Begin to copy finished recordings to the dock's disk, as the dock's udev rule does."""
        self.machine.run("systemctl start --no-block bodycam-offload.service")

    def offloads(self) -> bool:
        """Whether that is going on."""
        return bool(self.machine.run("systemctl is-active bodycam-offload.service || true").startswith("activating"))

    def offload(self) -> None:
        """The same to its end. Raises GuestError when something could not be copied."""
        self.machine.run("systemctl start bodycam-offload.service", timeout_s=300)

    def log(self, lines: int = 40) -> str:
        """What the daemon said last."""
        return self.machine.run(f"journalctl -u bodycam.service -o cat --no-pager -n {lines}")

    def double_press(self) -> list[int]:
        """Press the pin twice. Returns the boot time of each edge: down, up, down, up.

        A hand that was too slow, because this machine is busy, tries again, as a wearer would. Raises RigError.
        """
        for _ in range(PRESSES):
            began_ns, done_ns = self._move((0, 0), (120, 1), (150, 0), (120, 1))
            shortest_ns = min(later - earlier for earlier, later in zip(done_ns, began_ns[1:], strict=False))
            if done_ns[2] - began_ns[0] < 0.9e6 * DOUBLE_PRESS_MS and shortest_ns > 2e6 * DEBOUNCE_MS:
                return began_ns
            self.let_pass(2 * DOUBLE_PRESS_MS / 1000)
            if self.status()["recording"] is not None:
                return began_ns  # by the kernel's time of each edge it was in time
        raise RigError("The machine is too busy to press a button twice in time.")

    def single_press(self) -> list[int]:
        """Press the pin once."""
        return self._press((0, 0), (150, 1))

    def hold(self) -> list[int]:
        """Hold the pin as long as a stop takes."""
        return self._press((0, 0), (HOLD_MS + 700, 1))

    def end_recording(self) -> None:
        """Hold the button, and wait until what ran is sealed. Raises RigError."""
        before = len(self.status_changes())
        self.hold()
        self.wait_shows("ready", since=before)

    def hold_begin(self) -> int:
        """Begin to hold the pin, and leave it so; the boot time of the edge."""
        return self._press((0, 0))[0]

    def _press(self, *steps: tuple[int, int]) -> list[int]:
        return self._move(*steps)[0]

    def _move(self, *steps: tuple[int, int]) -> tuple[list[int], list[int]]:
        """When each step began and was done."""
        answer = self.machine.hand.ask("press", pin=RECORD_PIN, steps=steps)
        return [int(ns) for ns in answer["boottime_ns"]], [int(ns) for ns in answer["done_ns"]]

    def status(self) -> dict[str, Any]:
        """All that `bodycam status` says now."""
        return dict(self.machine.hand.ask("status", path=CONTROL_SOCKET)["status"])

    def status_changes(self) -> list[Seen]:
        """What `bodycam status` said, each time that it was something else."""
        return self._told("status", lambda event: event)

    def lines_changes(self) -> list[Seen]:
        """The levels of all lines that are watched, by pin, each time that one was another."""
        return self._told("lines", lambda event: event["levels"])

    def light_changes(self, pin: int = RED_PIN) -> list[Seen]:
        """The levels of an LED's line, each time that it was another."""
        changes: list[Seen] = []
        for seen in self._told("lines", lambda event: event["levels"][str(pin)]):
            if not changes or changes[-1].value != seen.value:
                changes.append(seen)
        return changes

    def wait_shows(self, indication: str, timeout_s: float = READY_TIMEOUT_S, since: int = 0) -> dict[str, Any]:
        """The first status after the first `since` changes that shows this. Raises RigError with the log."""
        return self.wait_status(
            lambda status: status["shows"] == indication, f"it showed {indication}", timeout_s, since
        )

    def wait_status(
        self, is_so: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 60, since: int = 0
    ) -> dict[str, Any]:
        """The first status after the first `since` changes of which `is_so` holds. Raises RigError with the log."""

        def look() -> dict[str, Any] | None:
            return next((seen.value for seen in self.status_changes()[since:] if is_so(seen.value)), None)

        try:
            return self.machine.hand.wait(look, what, timeout_s)
        except RigError as error:
            raise RigError(f"{error}\n{self.log()}") from error

    def wait_durable(self, fragments: int, since: int = 0, timeout_s: float = 240) -> dict[str, Any]:
        """`wait_status` until it records, and so many fragments of it are durable."""
        return self.wait_status(
            lambda status: status["shows"] == "recording" and (status["durable_fragments"] or 0) >= fragments,
            f"{fragments} fragments were durable",
            timeout_s,
            since,
        )

    def wait_blinking(self, pin: int, on_ms: int, off_ms: int, timeout_s: float = 30) -> int:
        """Wait until an LED's line blinks in this rhythm; the boot time at which it began. Raises RigError."""

        def look() -> int | None:
            changes = self.light_changes(pin)
            for on, off, again in zip(changes, changes[1:], changes[2:], strict=False):
                lit_ms, dark_ms = (off.boottime_ns - on.boottime_ns) / 1e6, (again.boottime_ns - off.boottime_ns) / 1e6
                if on.value and abs(lit_ms - on_ms) < 0.3 * on_ms and abs(dark_ms - off_ms) < 0.3 * off_ms:
                    return on.boottime_ns
            return None

        try:
            return self.machine.hand.wait(look, f"pin {pin} blinked {on_ms}/{off_ms} ms", timeout_s)
        except RigError as error:
            raise RigError(f"{error}\nThe line was {self.light_changes(pin)[-12:]}\n{self.log()}") from error

    def let_pass(self, seconds: float) -> None:
        """Let so much time pass, by this machine's clock: here time is real. Raises RigError if the guest dies."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            if not self.machine.alive:
                raise RigError("The guest ended.")
            time.sleep(min(left_s, 0.25))

    def verify(self) -> tuple[int, str]:
        """`bodycam verify` of the vault, in the guest: exit code and what it printed."""
        return self.machine.attempt(f"bodycam verify --root {VAULT}/device/root.pem {VAULT}", timeout_s=180)

    def copy_vault(self, into: Path) -> None:
        """Copy the vault out, to be looked at here."""
        self.machine.get_folder(VAULT, into)

    def _told(self, event: str, value: Callable[[dict[str, Any]], Any]) -> list[Seen]:
        return [Seen(told["boottime_ns"], value(told)) for told in self.machine.events if told["event"] == event]
