"""The part of support.txt that is about the camera: what it is, what ran on it, how it tested itself, its clock."""

from __future__ import annotations

from agent.offload.support_lines import (
    Lines,
    Said,
    moment,
    number,
    of_type,
    ref,
    seconds,
    several,
    size,
    text,
)
from agent.verify.words import counted, listed

_KEY_KINDS = {
    "software (exportable)": "a file on the camera; who can read that file can copy the key",
}
_TEST_STATES = {"ok": "in order", "warn": "with a warning", "fail": "failed", "skipped": "skipped"}
MAX_STEPS = 10


def camera(lines: Lines, sheet: Said) -> None:
    """Device, certificate, hardware."""
    lines.heading("1. THE CAMERA")
    lines.say(f"The camera's log gives it the name {text(sheet, 'device_id')} {ref(*sheet['journal_files'][:1])}.")
    certificates = {one["sha256"]: one for one in sheet["certificates"]}
    described = set()
    for signer in sheet["signed_by"]:
        span = f"Records {signer['first_record']} to {signer['last_record']} of the log"
        named = "" if signer["device_id"] == sheet["device_id"] else f", under the name {text(signer, 'device_id')},"
        lines.say(
            f"{span}{named} name as that of their key the certificate with the SHA-256 fingerprint "
            f"{ref(signer['first_record'])}"
        )
        fingerprint = text(signer, "certificate_sha256")
        lines.say(fingerprint, indent="    ")
        kind = text(signer, "key")
        meaning = _KEY_KINDS.get(kind)
        lines.say(f"That key is kept, by the camera's own account, as: {kind}" + (f", {meaning}." if meaning else "."))
        if fingerprint in described:
            continue
        described.add(fingerprint)
        if (one := certificates.get(fingerprint)) is None:
            lines.say("That certificate is not in this package.")
            continue
        lines.say(
            f"That certificate is for {one['subject']}, issued by {one['issuer']}, serial number "
            f"{one['serial_number']}, valid from {one['not_before'][:10]} to {one['not_after'][:10]} (device/)."
        )
    told: list[str] = []
    for run in sheet["runs"]:
        if (said := _hardware(run.get("boot", {}))) not in told:
            told.append(said)
            lines.say(f"{said} {ref(run.get('boot'))}.")


def _hardware(boot: Said) -> str:
    parts = [
        (f"hardware: {text(boot, 'hardware_model')}", boot.get("hardware_model")),
        (f"processor: {text(boot, 'machine')}", boot.get("machine")),
        (f"operating system: {text(boot, 'os_name')}", boot.get("os_name")),
        (f"kernel: {text(boot, 'kernel_release')}", boot.get("kernel_release")),
        (f"Python: {text(boot, 'python_version')}", boot.get("python_version")),
    ]
    said = [part for part, value in parts if value is not None]
    if not said:
        return "What hardware and operating system it ran on was not logged at its start"
    model = "" if boot.get("hardware_model") is not None else "; the hardware gave no name of itself"
    return f"It ran, by its own account, on: {', '.join(said)}{model}"


def starts(lines: Lines, sheet: Said) -> None:
    """Software, settings and self-tests of each start."""
    lines.heading("2. ITS SOFTWARE, SETTINGS AND SELF-TESTS")
    for ordinal, run in enumerate(sheet["runs"]):
        _start(lines, run, again=ordinal > 0)
    examination = sheet["last_examination"]
    if examination is None:
        lines.say("No examination (`bodycam doctor --record`) was logged between that start and the recording.")
        return
    tests = several(examination, "tests")
    states = [text(test, "state") for test in tests]
    counts = [f"{states.count(state)} {word}" for state, word in _TEST_STATES.items() if state in states]
    lines.say(
        f"The last examination (`bodycam doctor --record`) between that start and the recording was at "
        f"{moment(examination['utc'])}: {counted(len(tests), 'test')}, {listed(counts)} {ref(examination)}."
    )
    for test in tests:
        if test.get("state") in ("warn", "fail"):
            lines.item(f"{text(test, 'name')}, {_TEST_STATES[test['state']]}: {text(test, 'found')}")


def _start(lines: Lines, run: Said, *, again: bool) -> None:
    opened, boot = run.get("journal_open", {}), run.get("boot", {})
    begun = boot or opened
    lines.say(
        f"The camera's software {'was started again' if again else 'started'} at {moment(begun.get('utc'))} "
        f"{ref(begun)}: {text(boot, 'software')}, version {text(boot, 'version')}."
        + ("" if boot.get("software_sha256") else " A hash of its installed files was not logged.")
    )
    if boot.get("software_sha256"):
        lines.say(f"The SHA-256 over its installed files was {ref(boot)}")
        lines.say(text(boot, "software_sha256"), indent="    ")
    if (torn := number(opened, "torn_bytes")) is not None and torn > 0:
        lines.say(
            f"At that start the log ended in {size(opened, 'torn_bytes')} of an interrupted line, which are no part of "
            f"it {ref(opened)}."
        )
    if (settings := run.get("configuration")) is not None:
        sound = "with" if settings.get("pre_event_audio") else "without"
        lines.say(
            f"Its settings: profile {text(settings, 'profile')}; {text(settings, 'pre_event_s')} s of pre-event, "
            f"{sound} sound; files of about {text(settings, 'segment_s')} s {ref(settings)}. The SHA-256 of the whole "
            "configuration was"
        )
        lines.say(text(settings, "config_sha256"), indent="    ")
    _self_test(lines, run)
    if (ready := run.get("ready")) is not None:
        lines.say(
            f"It was ready to record at {moment(ready.get('utc'))}: camera {text(ready, 'camera')}, encoder "
            f"{text(ready, 'encoder')}, {text(ready, 'width')} x {text(ready, 'height')} pixels, "
            f"{text(ready, 'fps')} frames a second, {seconds(number(ready, 'buffered_ms'))} already in memory "
            f"{ref(ready)}."
        )


def _self_test(lines: Lines, run: Said) -> None:
    if (tested := run.get("self_test")) is None:
        lines.say("No self-test of that start stands in this log.")
        return
    outcomes = [
        f"{text(test, 'name')} {'passed' if test.get('passed') is True else 'failed'}"
        for test in several(tested, "tests")
    ]
    lines.say(
        f"At that start it tested itself, at {moment(tested.get('utc'))}: {listed(outcomes) or 'no test'} "
        f"{ref(tested)}."
    )
    for test in several(tested, "tests"):
        if test.get("passed") is not True:
            lines.item(f"{text(test, 'name')}: {text(test, 'found')}")


def clock(lines: Lines, sheet: Said) -> None:
    """Source, uncertainty, steps, and how far it moved while the recording ran."""
    lines.heading("3. ITS CLOCK")
    lines.say(
        'Lengths and places in the recording are on the "boot clock", a stopwatch that runs since the camera was '
        "switched on and that nobody can set. The time of day is a clock of its own, noted beside it in each record."
    )
    seen = sheet["recording"]
    if seen:
        first, last = seen[0], seen[-1]
        same = first["clock_source"] == last["clock_source"]
        lines.say(
            f"When the recording began the time of day {_trust(first)} {ref(first)}; when it ended "
            f"{'the same held' if same and _trust(first) == _trust(last) else 'it ' + _trust(last)} {ref(last)}."
        )
        _drift(lines, first, last)
    steps = [entry for entry in of_type(sheet["clock"], "clock") if entry.get("reason") == "step"]
    if not steps:
        lines.say("Between its start and the recording's end the camera logged no step of the time of day.")
        return
    lines.say(
        f"Between its start and the recording's end the camera logged {counted(len(steps), 'step')} of the time of day:"
    )
    for entry in steps[-MAX_STEPS:]:
        during = "during the recording" if entry["when"] == "during" else "before the recording"
        lines.item(
            f"by {_signed_s(number(entry, 'step_ms'))}, {during}; from then on it was {moment(entry['utc'])} and "
            f"{_trust(entry)} {ref(entry)}."
        )
    if len(steps) > MAX_STEPS:
        lines.item(f"and {len(steps) - MAX_STEPS} before those; see the appendix.")


def _trust(entry: Said) -> str:
    source, bound = text(entry, "clock_source"), number(entry, "clock_uncertainty_ms")
    known = {
        "ntp": "was kept by network time (ntp)",
        "unsynchronised": "came from a clock that nothing had set right (unsynchronised)",
    }
    margin = "with an unknown uncertainty" if bound is None else f"with an uncertainty of {seconds(bound)}"
    return f"{known.get(source, f'came from: {source}')}, {margin}"


def _drift(lines: Lines, first: Said, last: Said) -> None:
    if first["boot_id"] != last["boot_id"]:
        lines.say(
            "Between the two the camera was switched off and on, and the stopwatch began anew, so the two clocks "
            f"cannot be compared across the recording {ref(first, last)}."
        )
        return
    offsets = number(first, "utc_minus_boottime_ms"), number(last, "utc_minus_boottime_ms")
    if offsets[0] is not None and offsets[1] is not None:
        lines.say(
            f"From its first to its last record the time of day moved by {_signed_s(offsets[1] - offsets[0])} against "
            f"the stopwatch {ref(first, last)}."
        )


def _signed_s(ms: int | None) -> str:
    return "an unknown time" if ms is None else f"{ms / 1000:+.3f} s"
