"""The part of support.txt that is about the recording: how it came about, what is missing, what bounds its time."""

from __future__ import annotations

from agent.offload.support_lines import (
    Lines,
    Said,
    moment,
    number,
    of_type,
    place,
    ref,
    seconds,
    sentence,
    size,
    some,
    text,
)
from agent.verify.words import counted, listed

MAX_PLACES = 5
MAX_EVENTS = 20
_TRIGGERS = {
    "button": "by the camera's button",
    "control": "by a command at the camera's control socket",
    "resume": "by the camera itself, to go on with a recording that had been interrupted",
}
_STOPS = {
    "button": "by the camera's button",
    "control": "by a command at the camera's control socket",
    "shutdown": "because the camera's software was told to end",
    "camera-lost": "because the camera module gave no more pictures",
    "camera-hung": "because the camera module did not answer any more",
    "storage-full": "because the storage was full",
}
_SHORT = {
    "memory-bound": "the memory set aside for it was full",
    "camera-started": "the camera had not been running for longer",
}


def single(sheet: Said, type_: str) -> Said | None:
    """The one record of its type that a recording has; None when it has none."""
    return next(iter(of_type(sheet["recording"], type_)), None)


def in_short(lines: Lines, sheet: Said) -> None:
    """What somebody asks first."""
    opened, close = single(sheet, "recording-open"), single(sheet, "recording-close")
    length = place(number(close or {}, "end_media_ms"))
    if opened is None:
        lines.say(
            "In short: it was cut off before a first fragment of it was logged. What lay on the storage at the "
            f"camera's next start, {length} (minutes and seconds) of video, was sealed as it lay {ref(close)}.",
            indent="",
        )
        return
    began = moment(opened["media_origin_utc"]) if opened.get("media_origin_utc") else "a time not logged"
    trigger = single(sheet, "trigger")
    lines.say(
        f"In short: {length} (minutes and seconds) of video{_sound(opened)}, {_tongue(sheet)}, whose first picture was "
        f"taken at {began} by the camera's own clock{_end(close)} {ref(trigger, opened, close)}.",
        indent="",
    )


def _end(close: Said | None) -> str:
    return "; it was cut off and sealed at the camera's next start" if close and close.get("recovered") else ""


def _sound(opened: Said) -> str:
    return " without sound" if opened.get("audio") is None else " with sound"


def _tongue(sheet: Said) -> str:
    return "encrypted" if _encrypted(sheet) else "not encrypted"


def recording(lines: Lines, sheet: Said) -> None:
    """Trigger, pre-event, markers, stop, close."""
    lines.heading("4. THE RECORDING")
    opened = single(sheet, "recording-open")
    if (trigger := single(sheet, "trigger")) is not None:
        _trigger(lines, trigger)
    if opened is not None:
        _opened(lines, opened)
    else:
        lines.say("It was cut off before a first fragment of it was logged, so no record tells how it began.")
    markers = of_type(sheet["recording"], "marker")
    for entry in markers:
        lines.say(
            f"A marker was set at {place(number(entry, 'at_media_ms'))} of the recording, "
            f"{moment(entry.get('at_utc'))}, {_TRIGGERS.get(text(entry, 'source'), text(entry, 'source'))} "
            f"{ref(entry)}."
        )
    if not markers:
        lines.say("No marker was set.")
    if (stop := single(sheet, "stop")) is not None:
        reason = text(stop, "reason")
        lines.say(
            f"It was stopped at {place(number(stop, 'stop_media_ms'))} of the recording, "
            f"{moment(stop.get('stop_utc'))}, {_STOPS.get(reason, 'for the reason: ' + reason)} {ref(stop)}."
        )
    if (close := single(sheet, "recording-close")) is not None:
        _close(lines, close, sheet["log"])


def _trigger(lines: Lines, trigger: Said) -> None:
    source = text(trigger, "source")
    edges = trigger.get("gesture_boottime_ns")
    contacts = f" ({counted(len(edges), 'change')} of its contact)" if isinstance(edges, list) and edges else ""
    how = _TRIGGERS.get(source, "by a signal at " + source)
    lines.say(f"It was triggered at {moment(trigger.get('trigger_utc'))} {how}{contacts} {ref(trigger)}.")


def _opened(lines: Lines, opened: Said) -> None:
    actual, wanted = number(opened, "actual_pre_event_ms"), number(opened, "configured_pre_event_ms")
    lines.say(
        f"The trigger is at {place(number(opened, 'trigger_media_ms'))} of the recording. The first {seconds(actual)} "
        "are pre-event: pictures that were in the camera's memory when it was triggered; "
        f"{seconds(wanted)} were set {ref(opened)}. The pre-event has "
        f"{'sound, too' if opened.get('audio') is not None and opened.get('pre_event_audio') else 'no sound'}."
    )
    video, audio = opened.get("video"), opened.get("audio")
    if isinstance(video, dict):
        heard = "no sound"
        if isinstance(audio, dict):
            heard = (
                f"sound as {text(audio, 'codec')}, {text(audio, 'sample_rate_hz')} Hz, "
                f"{some(audio, 'channels', 'channel')}"
            )
        lines.say(
            f"Video is {text(video, 'codec')}, {text(video, 'width')} x {text(video, 'height')} pixels, "
            f"{text(video, 'fps')} frames a second; {heard} {ref(opened)}."
        )
    if opened.get("linked_from") is not None:
        lines.say(f"It goes on from recording {text(opened, 'linked_from')} {ref(opened)}.")


def _close(lines: Lines, close: Said, log: Said) -> None:
    made = (
        f"{some(close, 'frames', 'frame')} in {some(close, 'fragments', 'fragment')} and "
        f"{some(close, 'segments', 'media file')}, up to {place(number(close, 'end_media_ms'))}"
    )
    if close.get("recovered"):
        why = (
            "No stop was logged: it was cut off, as by a power failure."
            if close.get("interrupted")
            else "It had been stopped, and what was left to write was cut off, as by a power failure."
        )
        lines.say(
            f"{why} At its next start, at {moment(close['utc'])}, the camera sealed it as it lay: {made} {ref(close)}."
        )
    else:
        lines.say(f"It was closed in order at {moment(close['utc'])}, with {made} {ref(close)}.")
    if (covered := number(log, "close_covered_by")) is None:
        lines.say("No signature in this package covers the closing record.")
    elif covered == close["record"]:
        lines.say(f"The closing record has its own signature {ref(close)}.")
    else:
        lines.say(f"The closing record has no signature of its own; the next signed one covers it {ref(covered)}.")


def missing(lines: Lines, sheet: Said) -> None:
    """Gaps, frames that never came, pieces that were cut: by the camera's own account."""
    lines.heading("5. WHAT THE CAMERA ITSELF SAYS IS MISSING")
    told = Lines()
    for gap in of_type(sheet["recording"], "gap"):
        told.item(
            f"From {place(number(gap, 'from_media_ms'))} to {place(number(gap, 'to_media_ms'))} of the recording "
            f"({moment(gap.get('from_utc'))}) {some(gap, 'frames', 'frame')} could not be kept: "
            f"{_gap_reason(text(gap, 'reason'))} {ref(gap)}."
        )
    close = single(sheet, "recording-close") or {}
    _frames(told, close, sheet["fewer_frames"])
    opened = single(sheet, "recording-open") or {}
    if (why := opened.get("pre_event_short_reason")) is not None:
        told.item(
            f"The pre-event is {seconds(number(opened, 'actual_pre_event_ms'))} long and not "
            f"{seconds(number(opened, 'configured_pre_event_ms'))}: {_SHORT.get(str(why), str(why))} {ref(opened)}."
        )
    for segment in of_type(sheet["recording"], "segment"):
        _segment(told, segment)
    if close.get("recovered"):
        told.item(
            "What was filmed behind the last fragment on the storage and before the camera was cut off is not there; "
            f"the log cannot say how much that was {ref(close)}."
        )
    for entry in of_type(sheet["events"], "sound-missing"):
        if entry["when"] == "during":
            told.item(
                f"From {place(number(entry, 'from_media_ms'))} to {place(number(entry, 'to_media_ms'))} of the "
                f"recording the microphone gave nothing; silence stands there {ref(entry)}."
            )
    if told:
        lines.extend(told)
    else:
        lines.say(f"Nothing: no gap, no missed frame, no shortened pre-event, no cut file {ref(close)}.")


def _gap_reason(reason: str) -> str:
    if reason == "memory-bound":
        return "the memory in which they waited for the storage was full"
    return f"the reason is {reason}"


def _frames(told: Lines, close: Said, fewer: Said) -> None:
    missed, places = number(close, "missed_frames"), fewer["places"]
    if not missed and not places:
        return
    if missed is None:
        intro = "The log holds no count of frames that never came. By its checkpoints, "
    elif missed == 0:
        intro = f"The camera counted no frame that never came {ref(close)}. By its checkpoints, "
    else:
        intro = (
            f"{counted(missed, 'frame')} never came, by the times of those that did {ref(close)}. By the checkpoints, "
        )
    if not places:
        told.item(f"{intro}no fragment has fewer frames than its length makes.")
        return
    spots = [
        f"{place(one['first_media_ms'])} to {place(one['end_media_ms'])} ({counted(one['frames'], 'frame')}; "
        + (
            f"record {one['first_record']})"
            if one["first_record"] == one["last_record"]
            else f"records {one['first_record']} to {one['last_record']})"
        )
        for one in places[:MAX_PLACES]
    ]
    more = len(places) + fewer["places_left_out"] - len(spots)
    told.item(
        f"{intro}{counted(fewer['frames'], 'frame')} fewer than their length makes lie in these fragments: "
        f"{', '.join(spots)}" + (f", and {more} more places." if more else ".")
    )


def _segment(told: Lines, segment: Said) -> None:
    name, state = text(segment, "file"), text(segment, "state")
    span = f"{place(number(segment, 'first_media_ms'))} to {place(number(segment, 'end_media_ms'))} of the recording"
    if state == "torn":
        told.item(
            f"Writing {name} failed; {size(segment)} of it count, {span}. What was not confirmed stands again in the "
            f"next file {ref(segment)}."
        )
    elif state == "missing":
        told.item(f"{name} was not on the storage at the next start, though checkpoints name it {ref(segment)}.")
    elif state == "recovered":
        held = number(segment, "checkpointed_bytes")
        told.item(
            f"{name} was not finished; it holds {span}. Its first {size(segment, 'checkpointed_bytes')} had been "
            f"signed while they were recorded{'' if held is None else _rest(segment, held)}; "
            f"{size(segment, 'torn_bytes')} at its end are no whole fragment {ref(segment)}."
        )


def _rest(segment: Said, held: int) -> str:
    total = number(segment, "bytes")
    if total is None or total == held:
        return ""
    return f", the {total - held:,} bytes behind them only at the next start"


def events(lines: Lines, sheet: Said) -> None:
    """Faults while the recording ran, and those that it began with."""
    lines.heading("6. FAULTS OF THAT TIME")
    during = [one for one in sheet["events"] if one["when"] == "during"]
    shown = of_type(during, "fault", "fault-cleared", "records-lost", "storage")
    for entry in sheet["faults_when_it_began"]:
        lines.item(f"When it began there was a fault of {_fault(entry)}")
    for entry in shown[:MAX_EVENTS]:
        match entry["type"]:
            case "fault":
                lines.item(f"A fault began, of {_fault(entry)}")
            case "fault-cleared":
                lines.item(f"A fault was over, of {_fault(entry)}")
            case "records-lost":
                lines.item(f"{some(entry, 'records', 'record')} of the log could not be kept {ref(entry)}.")
            case _:
                lines.item(
                    f"{moment(entry['utc'])}: the room on the storage came to the level {text(entry, 'room')}, for "
                    f"{text(entry, 'minutes_left')} minutes {ref(entry)}."
                )
    if len(shown) > MAX_EVENTS:
        lines.item(f"{len(shown) - MAX_EVENTS} more stand in the appendix.")
    if not shown and not sheet["faults_when_it_began"]:
        lines.say("No fault was logged while it was recorded, and none was open when it began.")
    before = of_type([one for one in sheet["events"] if one["when"] == "before"], "fault")
    over = len(before) - len(sheet["faults_when_it_began"])
    if over > 0:
        lines.say(f"{counted(over, 'fault')} of the same run had been over before it began; see the appendix.")


def _fault(entry: Said) -> str:
    return f"{text(entry, 'component')}, {moment(entry['utc'])}: {sentence(entry.get('message', ''))} {ref(entry)}"


def timestamps(lines: Lines, sheet: Said) -> None:
    """What a time authority signed on both sides. Whether it is that authority is for a check with its root."""
    lines.heading("7. TIMESTAMPS OF A TIME AUTHORITY, as they read; this sheet did not check them")
    by_place = {when: [one for one in sheet["timestamps"] if one["when"] == when] for when in ("before", "after")}
    for one in by_place["before"]:
        lines.say(
            f"Before: {text(one, 'authority')} signed that record {text(one, 'head_seq')} existed at "
            f"{moment(one.get('gen_time'))} by its own clock. That stands in record {one['record']}; the records of "
            "this recording stand behind it, and were written later. Pictures of the pre-event were taken before the "
            f"first of them {ref(one)}."
        )
    for one in by_place["after"]:
        lines.say(
            f"After: {text(one, 'authority')} signed that record {text(one, 'head_seq')} existed at "
            f"{moment(one.get('gen_time'))} by its own clock, and so all before it: this recording's records to the "
            f"closing one {ref(one)}."
        )
    for when, found in by_place.items():
        if not found:
            lines.say(f"No timestamp {'behind its end' if when == 'after' else 'before it'} is in this package.")
    if others := len(sheet["timestamps"]) - sum(map(len, by_place.values())):
        lines.say(f"{counted(others, 'timestamp')} asked for while it was recorded: see the appendix.")


def _encrypted(sheet: Said) -> bool:
    return any(one["file"].endswith(".age") for one in sheet["files"])


def encryption(lines: Lines, sheet: Said) -> None:
    """To whom, and what they can do with their key."""
    lines.heading("8. ENCRYPTION")
    said = sheet["runs"][0].get("encryption") if sheet["runs"] else None
    opened = single(sheet, "recording-open") or {}
    if not any(one["file"][:1].isdigit() for one in sheet["files"]):
        lines.say("No segment of it is in this package, encrypted or not.")
        return
    if not _encrypted(sheet):
        lines.say(f"The recording is not encrypted: whoever has its files can play them{_named(said)}.")
        return
    named = said.get("recipients") if said else None
    recipients = [str(one) for one in named] if isinstance(named, list) else []
    lines.say(
        f"Its media files but init.mp4 are encrypted (age-encryption.org/v1) to {counted(len(recipients), 'recipient')}"
        f"{_named(said)}:"
    )
    for one in recipients:
        lines.say(one, indent="    ")
    lines.say(
        "Whoever holds the private key to one of these can open the recording, see, hear and copy it. Without one "
        "nobody can, the camera included: it holds none. These keys sign nothing: the signed hashes are of the files "
        "as they lie, encrypted, and are checked without a key."
    )
    if "sealed" in opened:
        lines.say(f"Fields that name people, such as who wore the camera, are sealed to the same keys {ref(opened)}.")
    else:
        lines.say(f"No field that names people was logged with it {ref(opened)}.")


def _named(said: Said | None) -> str:
    return "" if said is None else f" {ref(said)}"


def log(lines: Lines, sheet: Said) -> None:
    """The extract, and the receipts for copies."""
    about = sheet["log"]
    lines.heading("9. THE LOG, AND COPIES")
    lines.say(
        f"This package holds records {about['first_record']} to {about['last_record']} of the camera's log: "
        f"{about['records_signed']:,} with a signature of their own, {about['records_pending']:,} that a later "
        "signature covers. The SHA-256 of the last one is"
    )
    lines.say(text(about, "last_sha256"), indent="    ")
    for copy in sheet["copies"]:
        lines.say(
            f"It was copied to the store {text(copy, 'store')}: {counted(copy['files'], 'file')} with "
            f"{copy['total_bytes']:,} bytes were read back ({listed(copy['read_back'])}) and compared, as logged at "
            f"{moment(copy['utc'])} {ref(copy)}."
        )
    if not sheet["copies"]:
        lines.say(
            "Where it was copied to does not stand in this package: the camera logs a copy once it was made, and so "
            "behind the end of the log that went with it."
        )
