"""What `bodycam status` tells a person."""

from __future__ import annotations

from typing import Any

import pytest

from agent.cli import status as page
from agent.cli.status import status
from agent.settings.schema import Settings

ANSWER: dict[str, Any] = {
    "device": "CAM-TEST",
    "shows": "ready",
    "recording": None,
    "durable_fragments": 0,
    "finishing": [],
    "buffered_s": None,
    "vault_free_bytes": 0,
    "minutes_left": None,
    "storage_level": None,
    "faults": {},
}


def line_of(
    row: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    class Daemon:
        def __init__(self, _path: object) -> None: ...

        def request(self, _command: dict[str, str]) -> dict[str, Any]:
            return ANSWER | changes

    monkeypatch.setattr(page, "ControlClient", Daemon)
    assert status(Settings(), as_json=False) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(row)]
    return line.split(maxsplit=1)[1].strip()


@pytest.mark.parametrize(
    ("free_bytes", "said"),
    [
        (0, "0 MB free"),
        (12_400_000, "12 MB free"),
        (9_999_400_000, "9999 MB free"),
        (10_000_000_000, "10.0 GB free"),
        (58_260_000_000, "58.3 GB free"),
    ],
)
def test_room_on_a_small_card_is_told_in_mb(
    free_bytes: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line_of("vault", {"vault_free_bytes": free_bytes}, monkeypatch, capsys) == said


@pytest.mark.parametrize(
    ("minutes", "level", "said"),
    [
        (0, "full", "12 MB free, about 0 minutes of recording (full)"),
        (29, "very-low", "12 MB free, about 29 minutes of recording (very-low)"),
        (119, "plenty", "12 MB free, about 119 minutes of recording (plenty)"),
        (1500, "plenty", "12 MB free, about 25 hours of recording (plenty)"),
    ],
)
def test_room_is_told_in_time_once_it_was_measured(
    minutes: int, level: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"vault_free_bytes": 12_400_000, "minutes_left": minutes, "storage_level": level}
    assert line_of("vault", changes, monkeypatch, capsys) == said


@pytest.mark.parametrize(
    ("missed", "dropped", "said"),
    [
        (0, 0, "test, x264"),
        (7, 0, "test, x264; 7 frames did not come, the machine or the camera is too slow for them"),
        (0, 3, "test, x264; 3 frames could not be kept in the buffer"),
    ],
)
def test_frames_that_are_missing_are_told(
    missed: int, dropped: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        "buffered_s": 30.0, "buffer_bytes": 1, "pre_event_configured_s": 30, "camera": "test", "encoder": "x264",
        "buffer_max_bytes": 2, "missed_frames": missed, "dropped_frames": dropped,
    }  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    assert line_of("camera", changes, monkeypatch, capsys) == said


def buffer_line(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    whole = {
        "buffered_s": 30.0, "pre_event_configured_s": 30, "buffer_max_bytes": 16_000_000, "camera": "test",
        "encoder": "x264", "missed_frames": 0, "dropped_frames": 0, "shows": "fault",
    }  # fmt: skip
    monkeypatch.setenv("COLUMNS", "250")
    return line_of("buffer", whole | changes, monkeypatch, capsys)


def test_evidence_that_is_in_memory_only_is_told_with_how_long_memory_lasts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = {"faults": {"storage": "The card is out."}}
    said = buffer_line(away | {"buffer_bytes": 8_000_000}, monkeypatch, capsys)
    assert said == "30.0 s (at least 30 s asked, whole GOPs), 8.0 of 16.0 MB; room for about 30 s more"
    said = buffer_line(away | {"buffer_bytes": 15_500_000}, monkeypatch, capsys)
    assert said.endswith("; it is full, and the oldest of what waits for the card is lost")
    said = buffer_line({"buffer_bytes": 15_500_000}, monkeypatch, capsys)
    assert said.endswith("15.5 of 16.0 MB")


@pytest.mark.parametrize(
    ("faults", "level", "said"),
    [
        ({"storage": "The card is out."}, "plenty", "stays in memory until the card takes it"),
        ({"storage": "There is no room."}, "full", "It could not record now"),
        ({"camera": "It is gone."}, "plenty", "It could not record now"),
    ],
)
def test_what_a_fault_means_for_a_recording(
    faults: dict[str, str], level: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    changes = {"shows": "fault", "faults": faults, "storage_level": level}
    assert said in line_of("state", changes, monkeypatch, capsys)
