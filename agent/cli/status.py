"""`bodycam status`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli.output import say
from agent.control.client import ControlClient
from agent.settings.schema import Settings

_FULL = 0.95
"""Whole GOPs go, so that it is seldom full to the byte."""
_MEANING = {
    "starting": "It is starting: no picture has reached the buffer yet.",
    "ready": "It is ready: a double press records, with what lies before it.",
    "accepted": "A start was accepted; nothing of it is on flash yet.",
    "recording": "It is recording, and what it records goes on reaching flash.",
    "recording-unsafe": "It is recording, but nothing reaches flash: see the faults; without one it is too busy.",
    "finishing": "It is sealing the last recording.",
    "fault": "It could not record now: see the faults.",
    "stopping": "It is going down and seals what runs.",
}


def status(settings: Settings, *, as_json: bool) -> int:
    """Print what the daemon says of itself; returns 0. Raises ControlError when it does not run."""
    answer = ControlClient(settings.vault.socket_path).request({"command": "status"})
    if as_json:
        say(json.dumps(answer, indent=2))
        return 0
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(answer):
        # Text, not markup: messages name sections of the configuration in square brackets.
        table.add_row(name, Text(text))
    Console(highlight=False, emoji=False).print(table)
    return 0


def _rows(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "device", str(answer["device"])
    memory_only = "storage" in answer["faults"] and answer["storage_level"] != "full"
    meaning = _MEANING.get(str(answer["shows"]), "")
    if memory_only and answer["shows"] in ("fault", "finishing"):
        meaning = "What it records, and what is being sealed, stays in memory until the card takes it: see the faults."
    yield "state", f"{answer['shows']}. {meaning}"
    if answer["recording"]:
        yield "recording", f"{answer['recording']}, {answer['durable_fragments']} fragments on flash"
    for finishing in answer["finishing"]:
        yield "finishing", str(finishing)
    if answer["buffered_s"] is not None:
        yield "buffer", _buffer(answer, memory_only=memory_only)
        yield "camera", f"{answer['camera']}, {answer['encoder']}{_frames_gone(answer)}"
    if answer["vault_free_bytes"] is not None and not memory_only:  # perhaps it is another card's
        room = f"{_size(answer['vault_free_bytes'])} free"
        if answer["minutes_left"] is not None:
            room += f", about {_time(answer['minutes_left'])} of recording ({answer['storage_level']})"
        yield "vault", room
    if (witness := answer.get("witness")) is not None:
        yield "witness", _witness(witness)
    for component, message in answer["faults"].items():
        yield "fault", f"{component}: {message}"


def _buffer(answer: dict[str, Any], *, memory_only: bool) -> str:
    used, most = answer["buffer_bytes"], answer["buffer_max_bytes"]
    said = (
        f"{answer['buffered_s']:.1f} s (at least {answer['pre_event_configured_s']} s asked, whole GOPs), "
        f"{used / 1e6:.1f} of {most / 1e6:.1f} MB"
    )
    if memory_only and used >= _FULL * most:
        said += "; it is full, and the oldest of what waits for the card is lost"
    elif memory_only and answer["buffered_s"] > 0:
        said += f"; room for about {(most - used) / used * answer['buffered_s']:.0f} s more"
    return said


def _frames_gone(answer: dict[str, Any]) -> str:
    """Since the camera was opened; recordings say for themselves what they lack."""
    said = ""
    if answer["missed_frames"]:
        said += f"; {answer['missed_frames']} frames did not come, the machine or the camera is too slow for them"
    if answer["dropped_frames"]:
        said += f"; {answer['dropped_frames']} frames could not be kept in the buffer"
    return said


_WITNESSED = {
    "agrees": "at its start the card had all that is remembered of it",
    "lost": "at its start the card had LOST records that it had confirmed",
    "differs": "at its start the card had OTHER records than it had confirmed",
    "told": "the card had lost records that it had confirmed, as the log says",
    "another-journal": "at its start this was another card, or an emptied one, than the one remembered",
    "out-of-reach": "at its start what is remembered was too old to be looked for",
    "absent": "at its start nothing was remembered yet",
    "unreadable": "at its start what is remembered could not be read",
}


def _witness(witness: dict[str, Any]) -> str:
    said = _WITNESSED.get(str(witness["start"]), "the vault is not open yet")
    if witness["seq"] is None:
        return f"{said}."
    return f"{said}; remembers record {witness['seq']}{'' if witness['up_to_date'] else ', and is behind'}."


def _time(minutes: int) -> str:
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"


def _size(count_bytes: int) -> str:
    """In MB below 10 GB, where a tenth of a GB is minutes of video."""
    return f"{count_bytes / 1e9:.1f} GB" if count_bytes >= 10_000_000_000 else f"{count_bytes / 1e6:.0f} MB"
