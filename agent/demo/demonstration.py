"""The demonstration: the real daemon, its real (virtual) button, and what became of it. Any failure ends it, loudly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.demo.check_script import write_check_script
from agent.demo.checks import (
    check_signatures,
    commands,
    probe_film,
    require_tools,
    run_check_script,
    run_package_script,
)
from agent.demo.interruption import Interruption
from agent.demo.lights import LightsWatch
from agent.demo.paths import quoted, shown
from agent.demo.place import PRE_EVENT_S, Place
from agent.demo.process import CameraProcess, agent_command
from agent.demo.source import Source, choose_source
from agent.demo.story import BAD, GOOD, Story
from agent.errors import BodycamError, DemoError
from agent.panel.pin_client import PinSocketClient
from agent.trust.certificates import fingerprint_text, load_chain

INTERRUPTED_EXIT_CODE = 130
"""128 + SIGINT, as shells have it."""

_LIMIT_S = 30.0
_STAGE_TIMEOUT_S = 60.0
_FIRST_MARKER_S = 1.2
_AFTER_MARKER_S = 1.2


class Demonstration:
    """One showing, from an empty folder to evidence that was checked."""

    def __init__(self, place: Place, source: Source, seconds: int, story: Story, clock: Clock) -> None:
        """seconds: from the start that was recognised to the stop that was recognised, as near as it can be."""
        self._place = place
        self._source = source
        self._seconds = seconds
        self._story = story
        self._clock = clock

    def give(self, interruption: Interruption) -> None:
        """Raises BodycamError as soon as anything is not as it has to be, KeyboardInterrupt."""
        self._enroll()
        camera = CameraProcess(self._place.config, self._place.log, self._clock)
        with ExitStack() as stack:
            with interruption.held():
                camera.start()
                stack.callback(self._end_quietly, camera, interruption)
            try:
                package, frames = self._film_and_check(camera, stack)
            except (BodycamError, OSError) as error:
                if camera.ended_by_itself() is None:
                    raise
                # Whatever failed then failed because of that: its own words matter more.
                raise DemoError(f"The daemon ended {camera.how_it_ended()}.{camera.last_words()}") from error
        self._tell_what_to_do(package, frames)

    def _film_and_check(self, camera: CameraProcess, stack: ExitStack) -> tuple[Path, int]:
        camera.wait(self._place.pin_socket.exists, "its pins could be pressed", _LIMIT_S)
        pins = stack.enter_context(PinSocketClient(self._place.pin_socket))
        recording_id = self._record(camera, pins)
        package = self._offload(recording_id)
        frames = self._verify(package)
        self._export(package, recording_id)
        self._stop(camera)
        return package, frames

    def _enroll(self) -> None:
        self._bodycam("enroll", "--bench", "--config", str(self._place.config))
        device, *_ = load_chain(self._place.identity.chain)
        (root, *_) = load_chain(self._place.identity.bench_root)
        self._story.tell("enrolled", f"a key of its own, certificate {_short(fingerprint_text(device))}")
        self._story.tell("", f"issued by a CA made for this, {_short(fingerprint_text(root))}")

    def _record(self, camera: CameraProcess, pins: PinSocketClient) -> str:
        lights = LightsWatch(pins)
        self._fill_buffer(camera)
        ready = camera.wait_logged("state", "it was ready", _LIMIT_S, shows="ready")
        self._story.tell("shown", lights.describe(ready.arrived_ns))
        recording_id, pressed_ns = self._start(camera, pins, lights)
        hold_s = camera.settings.gestures.hold_ms / 1000
        marker_s = max(_FIRST_MARKER_S, (self._seconds - hold_s) / 2)
        hold_from_s = max(self._seconds - hold_s, marker_s + _AFTER_MARKER_S)
        self._run_until(camera, pressed_ns + int(marker_s * NS_PER_S))
        self._story.tell("shown", lights.describe(pressed_ns))
        self._mark(camera, pins, lights, recording_id, pressed_ns)
        self._run_until(camera, pressed_ns + int(hold_from_s * NS_PER_S))
        self._hold(camera, pins, lights, recording_id, hold_s)
        self._sealed(camera, recording_id)
        return recording_id

    def _fill_buffer(self, camera: CameraProcess) -> None:
        with self._story.waiting("the daemon starts …") as show:

            def started() -> dict[str, Any] | None:
                status = self._status(camera)
                return status if status is not None and status["buffered_s"] is not None else None

            status = camera.wait(started, "the first picture came", _LIMIT_S)
        size = re.search(
            r"width=(\d+) height=(\d+) fps=([0-9.]+)", camera.wait_logged("ready", "it said so", _LIMIT_S).text
        )
        filming = f"{size[1]}x{size[2]} at {float(size[3]):.4g}/s, " if size else ""
        self._story.tell("running", f"bodycam run, process {camera.pid}: {filming}{status['encoder']}")
        if self._source.no_sound:
            self._story.tell("", f"no sound: {self._source.no_sound}")
        with self._story.waiting("filling the buffer …") as show:

            def full() -> dict[str, Any] | None:
                status = self._status(camera)
                if status is None or status["buffered_s"] is None:
                    return None
                show(f"filling the buffer: {status['buffered_s']:.1f} of {PRE_EVENT_S} s …")
                return status if status["buffered_s"] >= PRE_EVENT_S and status["shows"] == "ready" else None

            status = camera.wait(full, f"{PRE_EVENT_S} s were buffered", PRE_EVENT_S + _LIMIT_S)
        on_disk = sum(1 for path in self._place.layout.recordings.iterdir())
        if on_disk:
            raise DemoError("There is a recording on disk although nobody has pressed the button.")
        self._story.tell(
            "ready",
            f"{status['buffered_s']:.1f} s buffered, {status['buffer_bytes'] / 1e6:.1f} MB in memory, no recording "
            "on disk",
            style=GOOD,
        )

    def _start(self, camera: CameraProcess, pins: PinSocketClient, lights: LightsWatch) -> tuple[str, int]:
        since = len(camera.lines)
        pins.single_press()
        self._clock.sleep_until_ns(self._clock.boottime_ns() + 150 * NS_PER_MS)
        pressed_ns = self._clock.boottime_ns()  # before the contact closes, so that no time is left out
        pins.single_press()
        button = f"button (pin {camera.settings.gpio.record_button_pin})"
        self._story.tell("pressed", f"the record {button}, twice: start")
        red = camera.wait(lambda: lights.first("led_red", 1, pressed_ns), "the red light came on", _LIMIT_S)
        self._story.tell(
            "accepted", f"{_ms(red.boottime_ns - pressed_ns)} ms after the second press: the red light is on"
        )
        durable = camera.wait_logged("state", "it was recording", _LIMIT_S, since, shows="recording")
        status = camera.wait(lambda: self._status(camera), "it said what it records", _LIMIT_S)
        self._story.tell(
            "recording",
            f"{_ms(durable.arrived_ns - pressed_ns)} ms after it: the first fragment is on disk and signed",
            style=GOOD,
        )
        return str(status["recording"]), pressed_ns

    def _mark(
        self, camera: CameraProcess, pins: PinSocketClient, lights: LightsWatch, recording_id: str, started_ns: int
    ) -> None:
        since = len(camera.lines)
        marked_ns = self._clock.boottime_ns()
        pins.single_press()
        camera.wait_logged("marker", "the marker was set", _LIMIT_S, since, recording=recording_id)
        camera.wait(lambda: lights.first("buzzer", 0, marked_ns), "the marker's beep ended", _LIMIT_S)
        after_s = (marked_ns - started_ns) / NS_PER_S
        self._story.tell("marker", f"a single press, {after_s:.1f} s into it: {_cues(lights, marked_ns)}")

    def _hold(
        self, camera: CameraProcess, pins: PinSocketClient, lights: LightsWatch, recording_id: str, hold_s: float
    ) -> None:
        since = len(camera.lines)
        down_ns = self._clock.boottime_ns()
        with self._story.waiting("holding the button to stop …"):
            pins.press()
            camera.wait_logged("stop", "the stop was recognised", _LIMIT_S, since, recording=recording_id)
            pins.release()
            camera.wait(lambda: lights.first("buzzer", 0, down_ns), "the stop's beep ended", _LIMIT_S)
        self._story.tell("stopped", f"the button held for {hold_s:.0f} s: {_cues(lights, down_ns)}")

    def _sealed(self, camera: CameraProcess, recording_id: str) -> None:
        path = self._place.layout.recording(recording_id) / "recording.json"

        def closed() -> dict[str, Any] | None:
            status = self._status(camera)
            if status is None or status["finishing"] or status["recording"] or not path.is_file():
                return None
            found: dict[str, Any] = json.loads(path.read_bytes())
            return found

        found = camera.wait(closed, "the recording was sealed", _LIMIT_S)
        opened, close = found["open"], found["close"]
        before_s = (opened["trigger_boottime_ns"] - opened["media_origin_boottime_ns"]) / NS_PER_S
        gaps = "" if not close["gaps"] else f", {close['gaps']} GAPS"
        long_s = close["end_media_90k"] / 90_000
        self._story.tell(
            "sealed",
            f"{close['frames']} frames, {long_s:.1f} s{gaps}, from {before_s:.1f} s before the press",
            style=BAD if gaps else GOOD,
        )
        if close["missed_frames"]:
            self._story.tell("", _why_missed(close["missed_frames"], self._source))
        if before_s < PRE_EVENT_S or opened["pre_event_short_reason"]:
            raise DemoError(
                f"The recording begins {before_s:.1f} s before the press, and {PRE_EVENT_S} s were promised "
                f"({opened['pre_event_short_reason'] or 'no reason is given'})."
            )

    def _offload(self, recording_id: str) -> Path:
        self._place.store.mkdir()
        config = str(self._place.config)
        said = self._bodycam("offload", "--once", "--to", str(self._place.store), "--config", config)
        packages = [path.parent for path in self._place.store.rglob("SHA256SUMS")]
        if len(packages) != 1 or packages[0].name != recording_id:
            raise DemoError(f"The store holds {len(packages)} evidence packages instead of this one's:\n{said}")
        if not self._receipt_noted(recording_id):
            raise DemoError(f"The camera has not noted the receipt of the store:\n{said}")
        files = [path for path in packages[0].rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        self._story.tell(
            "offloaded",
            f"{len(files)} files, {size / 1e6:.1f} MB, read back, equal; the receipt is logged",
        )
        return packages[0]

    def _receipt_noted(self, recording_id: str) -> bool:
        journals = sorted(self._place.layout.journal.glob("*.journal"))
        records = (json.loads(line.partition(b"\t")[0]) for path in journals for line in path.read_bytes().splitlines())
        return any(record["type"] == "offload" and record["recording_id"] == recording_id for record in records)

    def _verify(self, package: Path) -> int:
        root = self._place.identity.bench_root
        said = self._bodycam("verify", "--json", "--root", str(root), str(package), accepted=(0, 1))
        ((report, recording),) = ((report, found) for report in json.loads(said) for found in report["recordings"])
        if not report["ok"] or recording["verdict"] != "verified":
            raise DemoError(f"Our verifier does not accept the package:\n{said}")
        warnings = [finding["sentence"] for finding in report["findings"] if finding["severity"] == "warn"]
        outcome = "as they were signed" if warnings else "nothing wrong"
        self._story.tell(
            "verified",
            f"by our verifier: {report['journal']['records']} records, {recording['frames']} frames, {outcome}",
            style=GOOD,
        )
        for warning in warnings:
            self._story.tell("", f"but: {warning}")
        journal = check_signatures(package, root, self._place.folder)
        pending = f", {journal.pending} covered by the next" if journal.pending else ""
        self._story.tell("", f"by openssl: {journal.signed} of {len(journal.records)} signatures good{pending}")
        verdicts = run_package_script(package, root)
        held = [name for name, verdict in verdicts.items() if verdict.standing == "holds"]
        self._story.tell("", f"by its own verify.sh: {', '.join(held)} hold")
        for name, verdict in verdicts.items():
            if verdict.standing == "limited":
                self._story.tell("", f"but: {name} is limited. {verdict.reason}")
        streams = probe_film(package)
        for stream in streams:
            self._story.tell(
                "", f"by ffprobe: {stream.codec} {stream.detail}, {stream.packets} packets, {stream.duration_s:.1f} s"
            )
        frames = next(record["frames"] for record in journal.records if record["type"] == "recording-close")
        counted = [stream.packets for stream in streams if stream.kind == "video"]
        if counted != [frames] or recording["frames"] != frames:
            raise DemoError(f"The signed log says {frames} frames, ffprobe counts {counted}.")
        write_check_script(self._place.check_script)
        run_check_script(self._place.check_script)
        self._story.tell("", f"by {shown(self._place.check_script)}: the order of the log, and the video against it")
        if (self._source.no_sound is None) != any(stream.kind == "audio" for stream in streams):
            raise DemoError("ffprobe finds no sound in the recording, although the source has some.")
        return int(frames)

    def _export(self, package: Path, recording_id: str) -> None:
        self._bodycam("export", recording_id, "--from", str(package), "--output", str(self._place.film))
        self._story.tell("exported", f"{shown(self._place.film)}: one file to play, nothing encoded again")
        root = self._place.identity.bench_root
        said = self._bodycam("verify", "--json", "--root", str(root), str(self._place.film), accepted=(0, 1))
        (film,) = json.loads(said)
        if not film["ok"]:
            raise DemoError(f"The signatures in the exported video do not verify:\n{said}")
        fit = film["states"]["valid"]["gops"]
        self._story.tell("", f"signed in itself, too: {fit} of {film['gops']} GOPs; the log has the rest")

    def _stop(self, camera: CameraProcess) -> None:
        if camera.stop() != 0:
            raise DemoError(f"The daemon was told to end and ended {camera.how_it_ended()}.{camera.last_words()}")
        self._story.tell("ended", "the daemon, told so by SIGTERM, with exit code 0")

    def _tell_what_to_do(self, package: Path, frames: int) -> None:
        """Short, and the results last: the whole of it is to be seen on a terminal of 24 lines."""
        root = self._place.identity.bench_root
        story = self._story
        story.say()
        story.show(f"ffplay {quoted(self._place.film)}", above="Play it, or open that file in a browser:")
        verify = f"{_bodycam_shown()} verify --root {quoted(root)} \\\n    {quoted(package)}"
        story.show(verify, above="Verify the evidence package with our verifier:")
        story.say()
        story.say("Check it with nothing of ours:", style="bold")
        for comment, command in commands(package, root, self._place.check_script):
            story.show(command, above=f"# {comment}", style="dim")
        story.say()
        story.say(f"{shown(self._place.folder)} is made anew each time: then these commands no longer fit.")
        story.say(f"{frames} frames recorded, offloaded and checked: they are what the camera signed.", style=GOOD)

    def _run_until(self, camera: CameraProcess, until_ns: int) -> None:
        """Let it record, and notice at once if the daemon does not."""
        with self._story.waiting("recording …") as show:

            def over() -> bool | None:
                status = self._status(camera)
                if status is not None and status["recording"]:
                    left_s = max(0.0, (until_ns - self._clock.boottime_ns()) / NS_PER_S)
                    show(f"recording: {status['durable_fragments']} fragments on disk; next press in {left_s:.0f} s …")
                return self._clock.boottime_ns() >= until_ns or None

            seconds = max(0, until_ns - self._clock.boottime_ns()) / NS_PER_S
            camera.wait(over, "the recording went on", seconds + _LIMIT_S)

    def _status(self, camera: CameraProcess) -> dict[str, Any] | None:
        """The daemon's status. Raises DemoError for any fault: a demonstration has no business with one."""
        status = camera.status()
        faults = status["faults"] if status is not None else {}
        if isinstance(faults, dict) and faults:
            listed = " ".join(f"{part}: {message}" for part, message in faults.items())
            raise DemoError(f"The daemon reports a fault. {listed}")
        return status

    def _end_quietly(self, camera: CameraProcess, interruption: Interruption) -> None:
        """However this ended: no process stays."""
        with interruption.held():
            if camera.exit_code is not None:
                return
            try:
                with self._story.waiting("the daemon seals what it has and ends …"):
                    camera.stop()
                self._story.tell("ended", f"the daemon was told to end, and did so {camera.how_it_ended()}")
            finally:
                camera.stop()  # also when there is no terminal any more to say so

    def _bodycam(self, *arguments: str, accepted: tuple[int, ...] = (0,)) -> str:
        """Run a command as a person would; what it printed. Raises DemoError with that when it fails."""
        done = subprocess.run(
            agent_command(*arguments), capture_output=True, text=True, timeout=_STAGE_TIMEOUT_S, check=False
        )
        if done.returncode not in accepted:
            raise DemoError(
                f"`bodycam {arguments[0]}` ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout


def give_demonstration(*, seconds: int, source: str, folder: Path, story: Callable[[], Story], clock: Clock) -> int:
    """Give it; returns the exit code. Raises BodycamError."""
    require_tools()
    chosen = choose_source(source)
    place = Place(folder.absolute())
    place.make(chosen)
    telling = story()
    telling.say(f"The real daemon films {chosen.shown}.")
    telling.say("Its pins exist in memory only, and are pressed from outside.")
    telling.say()
    with Interruption() as interruption:
        try:
            Demonstration(place, chosen, seconds, telling, clock).give(interruption)
        except KeyboardInterrupt:
            telling.say("Interrupted. Nothing runs any more.", style=BAD)
            return INTERRUPTED_EXIT_CODE
    return 0


def _ms(duration_ns: int) -> str:
    duration_ms = duration_ns / NS_PER_MS
    return f"{duration_ms:.0f}" if duration_ms >= 9.95 else f"{duration_ms:.1f}"


def _why_missed(frames: int, source: Source) -> str:
    """In words: the evidence is none the worse for it, and says so itself."""
    missed = "1 frame was missed" if frames == 1 else f"{frames} frames were missed"
    if source.backend == "webcam":
        return f"{missed}: the computer was too busy, or the webcam too slow, as in dim light. The log says so."
    return f"{missed}: the camera is software here, and the computer was too busy for it. The log says so."


def _short(fingerprint: str) -> str:
    return fingerprint[:23] + "…"


def _cues(lights: LightsWatch, since_ns: int) -> str:
    """What could be heard and felt."""
    parts = [part for part in lights.describe(since_ns).split(", ") if "light" not in part]
    return ", ".join(parts)


def _bodycam_shown() -> str:
    """How this was called, for a command to be copied."""
    program = Path(sys.argv[0])
    return quoted(program) if program.name == "bodycam" else " ".join(map(str, agent_command()))
