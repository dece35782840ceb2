"""A QEMU guest: started, asked, saved to a file and started from it, and killed as a power cut kills."""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.rig.build import Layers
from tests.rig.qemu import GuestError, Hand, Monitor, RigError, connected

MEMORY_MB = 768
CPUS = 2
BOOT_TIMEOUT_S = 240.0
"""A cold boot takes 20 to 70 s on two busy cores without KVM."""

# Not `max`: it emulates AVX, which makes x264 three times slower.
HARDWARE = (
    "-accel", "tcg,thread=multi,tb-size=256", "-machine", "q35", "-cpu", "Nehalem", "-smp", str(CPUS),
    "-m", str(MEMORY_MB), "-display", "none", "-nodefaults", "-no-reboot",
)  # fmt: skip
# Without no_timer_check a kernel that is not served in time at its start distrusts the timer, and may hang for ever.
COMMAND_LINE = "console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check systemd.show_status=0"


@dataclass(frozen=True, slots=True)
class Drives:
    """What QEMU's -drive calls the device's disks.

    root: /dev/vda, the device's root file system. card: /dev/vdb, the flash that evidence lies on. store: /dev/vdc, the
    disk in the dock. memory: /dev/vdd, what the device has of other flash, to remember things that a card may forget.
    """

    root: str
    card: str
    store: str
    memory: str


class Machine:
    """A running guest. A context manager: whatever happens in it, no QEMU and no file of it stays behind.

    Parameters:
        state: a file from `save`, to go on from there; the root must be the one of that moment.
        rtc: what the board's clock says at the start (QEMU's -rtc base=); by default the time.
        terminal: the guest's console is this process's terminal.
    """

    def __init__(
        self,
        layers: Layers,
        drives: Drives,
        *,
        state: Path | None = None,
        rtc: str = "utc",
        terminal: bool = False,
    ) -> None:
        """Returns when the guest answers. Raises RigError, with the console's last lines, when it does not."""
        self.folder = Path(tempfile.mkdtemp(prefix="rig-"))
        self.console = self.folder / "console.log"
        self._said = self.folder / "qemu.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._hand: Hand | None = None
        self._monitor: Monitor | None = None
        self._offset_ns: int | None = None
        self._plugged = 0
        try:
            self._start(layers, drives, state, rtc, terminal)
        except BaseException:
            self.kill()
            raise

    def _start(self, layers: Layers, drives: Drives, state: Path | None, rtc: str, terminal: bool) -> None:
        console = "stdio,signal=off" if terminal else f"file,path={self.console}"
        command = [
            # QEMU must not outlive who started it, however that ends.
            "setpriv", "--pdeathsig", "KILL",
            "qemu-system-x86_64", *HARDWARE,
            "-kernel", str(layers.vmlinuz), "-initrd", str(layers.initrd), "-append", COMMAND_LINE,
            "-rtc", f"base={rtc}",
            "-chardev", f"{console},id=console", "-serial", "chardev:console",
            # The microcontroller's line: whoever connects here is it.
            "-chardev", f"socket,id=bridge,path={self.bridge},server=on,wait=off", "-serial", "chardev:bridge",
            *(argument for name in ("root", "card", "store", "memory") for argument in (
                "-drive", f"{getattr(drives, name)},if=none,id={name}",
                # Errors go to the guest, as a card's do; by default a full disk stops the machine.
                "-device", f"virtio-blk-pci,drive={name},werror=report,rerror=report",
            )),
            # For a card in a reader.
            "-device", "qemu-xhci,id=usb",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=hand,path={self.folder}/hand,server=on,wait=off",
            "-device", "virtserialport,chardev=hand,name=org.bodycam.rig",
            "-device", "virtio-rng-pci",
            "-qmp", f"unix:{self.folder}/monitor,server=on,wait=off",
        ]  # fmt: skip
        if state is not None:
            command += ["-incoming", f"exec:zstd -qdc {state}"]
        deadline_s = time.monotonic() + BOOT_TIMEOUT_S
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command,
                stdin=None if terminal else subprocess.DEVNULL,
                stdout=None if terminal else said,
                stderr=said,
            )
        try:
            self._hand = Hand(connected(self.folder / "hand", deadline_s, lambda: self.alive))
            self._monitor = Monitor(connected(self.folder / "monitor", deadline_s, lambda: self.alive))
            if state is None:
                self._hand.wait(
                    lambda: True if self.events and self.events[0]["event"] == "hello" else None,
                    "the guest to boot",
                    BOOT_TIMEOUT_S,
                )
            else:
                self._arrive(deadline_s)
        except RigError as error:
            raise RigError(f"{error}\n{self.last_words()}") from error

    def _arrive(self, deadline_s: float) -> None:
        assert self._monitor is not None
        while self._monitor.execute("query-status")["status"] == "inmigrate":
            if time.monotonic() > deadline_s:
                raise RigError("The saved state does not load.")
            time.sleep(0.02)
        # It was saved stopped, so it arrives stopped, with the time of then.
        self._monitor.execute("cont")
        # And with the state of the kernel's random numbers, which it would go on with: of 14 starts three pairs had the
        # same boot id, and the journal of a card that was in both told of a boot clock that goes back.
        self.hand.ask("seed", data=secrets.token_hex(32))

    @property
    def bridge(self) -> Path:
        """The socket that is the other end of the guest's /dev/ttyS1."""
        return self.folder / "bridge"

    @property
    def hand(self) -> Hand:
        """The rig-agent in the guest."""
        assert self._hand is not None
        return self._hand

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the guest told unasked."""
        return self.hand.events

    @property
    def pid(self) -> int:
        """QEMU's."""
        assert self._process is not None
        return self._process.pid

    def attempt(self, shell: str, timeout_s: float = 120) -> tuple[int, str]:
        """Run a shell command in the guest: its exit code (124 when it took too long), and what it printed."""
        reply = self.hand.ask("run", shell=shell, limit_s=timeout_s, timeout_s=timeout_s + 30)
        return int(reply["rc"]), str(reply["out"])

    def run(self, shell: str, timeout_s: float = 120) -> str:
        """What a shell command in the guest prints. Raises GuestError when it fails."""
        code, said = self.attempt(shell, timeout_s)
        if code != 0:
            raise GuestError(f"In the guest `{shell}` ended with {code}:\n{said}")
        return said

    def set_clock(self, utc_s: float | None = None) -> None:
        """Set the guest's time of day, to this machine's unless said: a saved state has that of then."""
        self.run(f"date -s @{time.time() if utc_s is None else utc_s:.3f} >/dev/null")

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Write a small file in the guest."""
        self.hand.ask("put", path=path, data=base64.b64encode(data).decode(), mode=mode)

    def get(self, path: str) -> bytes:
        """Read a file of the guest."""
        data = bytearray()
        while chunk := base64.b64decode(self.hand.ask("get", path=path, offset=len(data))["data"]):
            data += chunk
        return bytes(data)

    def get_folder(self, path: str, into: Path) -> None:
        """Copy a folder of the guest, with its contents, to `into`, which is made."""
        self.run(f"tar -C {path} -cf /run/rig-folder.tar .")
        into.mkdir(parents=True)
        subprocess.run(["tar", "-C", str(into), "-xf", "-"], input=self.get("/run/rig-folder.tar"), check=True)
        self.run("rm /run/rig-folder.tar")

    def boottime_ns(self, monotonic_ns: int) -> int:
        """The guest's CLOCK_BOOTTIME at a moment of this machine's monotonic clock, to a few milliseconds."""
        if self._offset_ns is None:
            self.compare_clocks()
        assert self._offset_ns is not None
        return monotonic_ns + self._offset_ns

    def compare_clocks(self, times: int = 5) -> int:
        """Ask for the guest's time; the quickest answer counts. Returns how far off it can be, in ns."""
        best_ns = 1 << 62
        for _ in range(times):
            before_ns = time.monotonic_ns()
            told_ns = self.hand.ask("now")["boottime_ns"]
            after_ns = time.monotonic_ns()
            if after_ns - before_ns < best_ns:
                best_ns = after_ns - before_ns
                self._offset_ns = told_ns - (before_ns + after_ns) // 2
        return best_ns // 2

    def suspend(self, seconds: float, timeout_s: float = 60) -> None:
        """Suspend to RAM (ACPI S3), and wake it up so much later. Raises RigError when it does not go to sleep."""
        self.run("(sleep 0.5; echo mem >/sys/power/state) >/dev/null 2>&1 &")
        deadline_s = time.monotonic() + timeout_s
        while self._ask_monitor("query-status")["status"] != "suspended":
            if time.monotonic() > deadline_s:
                raise RigError(f"The guest does not suspend.\n{self.last_words()}")
            time.sleep(0.1)
        time.sleep(seconds)
        self._ask_monitor("system_wakeup")

    def plug_in(self, image: Path) -> None:
        """Plug in a card reader with this card in it; the guest's kernel needs xhci-pci, usb-storage and sd_mod."""
        self._plugged += 1
        file = {"driver": "file", "filename": str(image)}
        name = f"reader{self._plugged}"
        self._ask_monitor("blockdev-add", **{"node-name": name, "driver": "raw", "file": file})
        self._ask_monitor("device_add", driver="usb-storage", bus="usb.0", drive=name, id=name)

    def pull_out(self) -> None:
        """Pull it out, whatever is being written."""
        self._ask_monitor("device_del", id=f"reader{self._plugged}")

    def _ask_monitor(self, command: str, **arguments: Any) -> Any:
        assert self._monitor is not None
        return self._monitor.execute(command, **arguments)

    def save(self, path: Path, timeout_s: float = 120) -> None:
        """Write memory and devices to a file and end. The root as it is now belongs to it. Raises RigError."""
        assert self._monitor is not None
        assert self._process is not None
        self.run("sync")
        self._monitor.execute("stop")
        self._monitor.execute("migrate", uri=f"exec:zstd -q -1 -T0 -f -o {path}")
        deadline_s = time.monotonic() + timeout_s
        while (status := self._monitor.execute("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline_s:
                raise RigError(f"The guest's state could not be saved ({status}).\n{self.last_words()}")
            time.sleep(0.1)
        self._monitor.execute("quit")
        self._process.wait(timeout=30)
        self.kill()

    def power_off(self, timeout_s: float = 90) -> None:
        """An orderly end. Raises RigError when the guest does not come to it."""
        assert self._process is not None
        self.run("systemctl poweroff --no-block")
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise RigError(f"The guest does not power off.\n{self.last_words()}") from error
        finally:
            self.kill()

    def wait(self) -> None:
        """Until the guest ends by itself."""
        assert self._process is not None
        self._process.wait()

    def kill(self) -> None:
        """End it at once and remove its files. A power cut only together with a lossy disk's `cut` before."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for line in (self._hand, self._monitor):
            if line is not None:
                line.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def last_words(self, lines: int = 25) -> str:
        """The end of what QEMU and the guest's console said."""
        texts = [path.read_text(errors="replace") for path in (self._said, self.console) if path.exists()]
        return "\n".join("\n".join(text.splitlines()[-lines:]) for text in texts)

    @property
    def alive(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.last_words())
        self.kill()
