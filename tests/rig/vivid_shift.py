"""A shift with the kernel's own test camera (vivid) and test sound card (snd-aloop): the story, told once."""

from __future__ import annotations

from tests.rig.camera import Camera
from tests.rig.loopback import DEVICE, RATE_HZ, Loopback, uptime_ns
from tests.rig.webcam_shift import PRE_EVENT_S, STALL_MS, Shift, Storyteller, configure, finish

CAMERA = "/dev/video0"
PLUG = "modprobe vivid n_devs=1 node_types=0x1"
DROPPED_PERCENT = 30
TONE_HEARD_S = 5


def tell(camera: Camera, shift: Shift) -> None:
    """The whole shift; what is asserted here is only what has to be so for the story to go on."""
    machine, story = camera.machine, Storyteller(camera, shift)
    shift.began_utc_s = float(machine.run("date +%s.%N"))
    configure(
        machine,
        backend='backend = "webcam"',
        stall_ms=f"stall_ms = {STALL_MS}",
        source=f'source = "alsa"\ndevice = "{DEVICE}"\nsample_rate_hz = {RATE_HZ}\nchannels = 1',
        max_bytes="max_bytes = 16_000_000\naudio = true",
    )
    machine.run(PLUG)
    # Start of exposure. The end, which is what it has by itself, is a time to come when the picture is there already.
    machine.run(f"v4l2-ctl -d {CAMERA} --set-ctrl timestamp_source=1")
    microphone = Loopback(machine)
    camera.insert_card()
    camera.start()
    camera.wait_shows("ready")
    camera.let_pass(PRE_EVENT_S + 1)

    running = story.press()
    microphone.backlog_ns()
    # Until one and the same tone has sounded for so long: it begins anew from time to time.
    while (began_ns := microphone.began_ns()) != shift.did.get("tone"):
        shift.did["tone"] = began_ns
        camera.let_pass(TONE_HEARD_S)
    shift.backlog_ns = microphone.backlog_ns()
    at_ns = shift.did["microphone gone"] = microphone.unplug()
    story.wait("microphone gone", lambda now: "microphone" in now["faults"], at_ns)
    at_ns = shift.did["microphone back"] = microphone.plug()
    story.wait("microphone back", lambda now: "microphone" not in now["faults"], at_ns)

    shift.did["dropping"] = inject(camera, f"percentage_of_dropped_buffers={DROPPED_PERCENT}")
    camera.let_pass(3)
    shift.did["dropping ends"] = inject(camera, "percentage_of_dropped_buffers=0")
    shift.did["broken picture"] = inject(camera, "inject_v4l2_buf_flag_error=1")
    camera.let_pass(1)

    at_ns = shift.did["stream broken"] = inject(camera, "inject_fatal_streaming_error=1")
    running = story.records_again("stream broken", running, at_ns)
    camera.let_pass(2)

    at_ns = shift.did["disconnected"] = inject(camera, "disconnect=1")
    story.shows_a_fault("disconnected", at_ns)
    # vivid plugs itself in again when nobody has it open any more.
    running = story.records_again("disconnected, connected", running, at_ns)
    camera.let_pass(2)
    at_ns = shift.did["hold"] = camera.hold_begin()
    story.wait("hold", lambda now: now["shows"] == "ready", at_ns)
    camera.stop()
    finish(camera, shift)


def inject(camera: Camera, control: str) -> int:
    """Set one of vivid's controls; the boot time before."""
    return uptime_ns(camera.machine, f"v4l2-ctl -d {CAMERA} --set-ctrl {control}")
