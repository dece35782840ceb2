"""The machinery of the checks: hanging probes, errors turned into advice, the whole examination, the table."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.capture.camera import CameraFormat
from agent.cli.doctor import doctor
from agent.clock import Clock, SimulatedClock
from agent.doctor.check import Check, State, fail, failed_with, ok, skipped, warn, within
from agent.doctor.examination import Examination, daemon_runs, exit_code
from agent.errors import DeviceKeyError
from agent.settings.schema import Settings, VaultSettings, VideoSettings
from agent.vault.lock import VaultLock

FORMAT = CameraFormat(320, 240, 15, "nv12")


def test_a_probe_that_hangs_is_left_behind() -> None:
    release = threading.Event()
    try:
        with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
            within(0.05, release.wait)
    finally:
        release.set()


def test_a_probe_that_answers_or_fails_does_so_to_its_caller() -> None:
    assert within(5, lambda: 7) == 7
    assert within(5, lambda: None) is None

    def broken() -> None:
        raise DeviceKeyError("no key")

    with pytest.raises(DeviceKeyError, match="no key"):
        within(5, broken)


def test_an_error_is_split_into_what_is_and_what_to_do() -> None:
    split = failed_with("key", DeviceKeyError("There is no key at /k; run `bodycam enroll` to make one."), "unused")
    assert split == fail("key", "There is no key at /k.", "Run `bodycam enroll` to make one.")
    whole = failed_with("key", DeviceKeyError("There is no key."), "Make one.")
    assert whole == fail("key", "There is no key.", "Make one.")


def healthy(**replaced: Any) -> Examination:
    """An examination whose every look is well."""

    def camera(_: Settings, __: Clock) -> tuple[Check, CameraFormat | None]:
        return ok("camera", "Camera."), FORMAT

    looks: dict[str, Any] = {
        "daemon_runs": lambda _: False,
        "camera": camera,
        "encoder": lambda _, camera_format, __: ok("encoder", f"{camera_format}"),
        "microphone": lambda _, __: ok("microphone", "Microphone."),
        "gpio": lambda _: ok("gpio", "Pins."),
        "serial": lambda _: skipped("serial", "None."),
        "storage": lambda _, __: [ok("vault", "Vault."), ok("fsync", "Fast."), ok("space", "Room.")],
        "witness": lambda _: skipped("witness", "None."),
        "wall_clock": lambda _, __: [ok("clock", "Clock."), ok("rtc", "RTC.")],
        "identity": lambda _, __: ok("key", "Key."),
        "encryption": lambda _: ok("encryption", "Encrypted."),
        "host": lambda _, *, daemon_runs: [ok("memory", f"{daemon_runs}")],
    }
    return Examination(**{**looks, **replaced})


def run(examination: Examination) -> dict[str, Check]:
    return {check.name: check for check in examination.run(Settings(), SimulatedClock())}


def test_everything_is_looked_at_in_order() -> None:
    assert list(run(healthy())) == [
        "camera", "encoder", "microphone", "gpio", "serial", "vault", "fsync", "space", "witness", "clock", "rtc",
        "key", "encryption", "memory",
    ]  # fmt: skip


def test_the_encoder_is_tried_with_what_the_camera_really_gives() -> None:
    assert "width=320" in run(healthy())["encoder"].found
    lost = healthy(camera=lambda _, __: (fail("camera", "Gone.", "Plug it in."), None))
    assert "width=1920, height=1080, fps=30" in run(lost)["encoder"].found


def test_what_a_running_daemon_uses_is_left_alone() -> None:
    def touched(*_: object) -> Check:
        raise AssertionError("a device in use was opened")

    busy = healthy(
        daemon_runs=lambda _: True, camera=touched, encoder=touched, microphone=touched, gpio=touched, serial=touched
    )
    found = run(busy)
    for name in ("camera", "encoder", "microphone", "gpio", "serial"):
        assert found[name].state is State.SKIPPED
        assert "bodycam run" in found[name].found
    assert found["vault"].state is State.OK
    assert found["memory"].found == "True"


def test_a_check_that_breaks_is_a_failed_check_and_not_the_end() -> None:
    def broken(_: Settings) -> Check:
        raise ZeroDivisionError("division by zero")

    found = run(healthy(gpio=broken))
    assert found["gpio"].state is State.FAIL
    assert "ZeroDivisionError" in found["gpio"].found
    assert found["memory"].state is State.OK


def test_only_a_failure_is_a_failure() -> None:
    assert exit_code([ok("a", "."), warn("b", ".", "."), skipped("c", ".")]) == 0
    assert exit_code([ok("a", "."), fail("b", ".", ".")]) == 1
    assert exit_code([]) == 0


def test_the_vaults_lock_says_whether_the_daemon_runs(tmp_path: Path) -> None:
    settings = Settings(vault=VaultSettings(path=tmp_path / "vault"))
    assert not daemon_runs(settings)
    (tmp_path / "vault").mkdir()
    assert not daemon_runs(settings)
    lock = VaultLock(tmp_path / "vault")
    assert daemon_runs(settings)
    lock.release()
    assert not daemon_runs(settings)
    VaultLock(tmp_path / "vault").release()  # and looking left no lock behind


def printed(examination: Examination, *, as_json: bool) -> tuple[int, str]:
    out = io.StringIO()
    code = doctor(Settings(), as_json=as_json, clock=SimulatedClock(), examination=examination, out=out)
    return code, out.getvalue()


def test_the_table_has_a_line_for_each_check_and_what_to_do_beneath() -> None:
    sick = healthy(gpio=lambda _: fail("gpio", "No chip [x] is there.", "Add [gpio] chip_labels."))
    code, text = printed(sick, as_json=False)
    assert code == 1
    lines = [line.rstrip() for line in text.splitlines()]
    at = next(n for n, line in enumerate(lines) if "gpio" in line)
    assert lines[at].split(maxsplit=2) == ["fail", "gpio", "No chip [x] is there."]
    assert lines[at + 1].strip() == "→ Add [gpio] chip_labels."
    assert lines[-1] == "1 failed: this camera is not fit to record."


def test_warnings_are_counted_and_pass() -> None:
    code, text = printed(healthy(gpio=lambda _: warn("gpio", "No light.", "Fit one.")), as_json=False)
    assert code == 0
    assert text.rstrip().endswith("Fit to record, with 1 warning(s).")
    assert printed(healthy(), as_json=False)[1].rstrip().endswith("\nFit to record.")


def test_json_has_the_same() -> None:
    code, text = printed(healthy(gpio=lambda _: fail("gpio", "No chip.", "Add it.")), as_json=True)
    document = json.loads(text)
    assert code == 1
    assert document["ok"] is False
    assert {"name": "gpio", "state": "fail", "found": "No chip.", "advice": "Add it."} in document["checks"]
    assert len(document["checks"]) == 14
    assert json.loads(printed(healthy(), as_json=True)[1])["ok"] is True


def test_video_settings_reach_the_encoder() -> None:
    seen: list[VideoSettings] = []

    def encoder(settings: VideoSettings, _: CameraFormat, __: Clock) -> Check:
        seen.append(settings)
        return ok("encoder", "Encoder.")

    run(healthy(encoder=encoder))
    assert seen == [Settings().video]
