"""Trusted time with the real daemon, its control socket, real HTTP and `openssl ts`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.control.client import ControlClient
from agent.errors import ControlError
from tests.end_to_end.test_daemon import LIMIT_S, Desk, desk, double_press, press_again, wait_recording, wait_status
from tests.support.time_authority import served, time_authority

__all__ = ["desk"]


def test_a_shift_between_two_docks(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "no_proxy", "*")
    camera = desk.start_ready()
    with served(time_authority()) as url:
        stamped = desk.bodycam("timestamp", "--once", "--authority", url, "--config", str(desk.config))
        assert stamped.returncode == 0, stamped.stderr
        assert "all before it existed by" in stamped.stdout
    with desk.pins() as pins:
        double_press(pins)
        recording_id = wait_recording(camera)
        press_again(pins, 1.1)
        camera.wait_logged("stop", "the stop", LIMIT_S, recording=recording_id, reason="button")
        wait_status(camera, lambda status: status["shows"] == "ready", "it was ready again")
    store = tmp_path / "store"
    store.mkdir()
    offload = ["offload", "--once", "--to", str(store), "--config", str(desk.config), "--set"]
    nobody = desk.bodycam(*offload, "time.authority_url=http://127.0.0.1:9/")
    assert nobody.returncode == 0
    assert "No timestamp was taken before this offload" in nobody.stdout
    stamped_store = tmp_path / "stamped"
    stamped_store.mkdir()
    offload[offload.index(str(store))] = str(stamped_store)
    with served(time_authority()) as url:
        docked = desk.bodycam(*offload, f"time.authority_url={url}")
    assert docked.returncode == 0, docked.stdout
    assert docked.stdout.startswith("Timestamp: record ")
    token = desk.records("timestamp")[-1]["response"]
    with pytest.raises(ControlError, match="outstanding"):
        ControlClient(camera.settings.vault.socket_path).request({"command": "timestamp-token", "response": token})
    assert camera.stop() == 0

    assert len(desk.records("timestamp")) == 2
    roots = ["--root", str(desk.layout.root_certificate), "--tsa-root", str(time_authority().root_pem)]
    verify = desk.bodycam("verify", "--json", *roots, str(desk.vault))
    assert verify.returncode == 0, verify.stdout
    (report,) = json.loads(verify.stdout)
    assert [found["code"] for found in report["findings"] if found["severity"] != "note"] == []
    (found,) = report["recordings"]
    time = found["time"]
    assert time["authority_checked"]
    assert time["not_before"] < time["existed_by"]
    assert time["estimate"]["basis"] == "fitted"
    assert time["token_before"]["record"] < time["token_after"]["covers_up_to_record"]
    (package,) = stamped_store.glob("*/*")
    (of_package,) = json.loads(desk.bodycam("verify", "--json", *roots, str(package)).stdout)
    assert of_package["recordings"][0]["time"] == time, "a package bounds its recording as the vault does"
    assert of_package["recordings"][0]["verdicts"]["time"]["verdict"] == "holds"
    (bare,) = store.glob("*/*")
    (of_bare,) = json.loads(desk.bodycam("verify", "--json", *roots, str(bare)).stdout)
    assert of_bare["recordings"][0]["time"]["existed_by"] is None
    assert of_bare["recordings"][0]["verdicts"]["time"]["verdict"] == "limited"
    said = desk.bodycam("verify", *roots, str(desk.vault)).stdout
    for words in ("written not before", "existed by", "an estimate between the two, no proof"):
        assert words in " ".join(said.split())
    other = str(time_authority("Other TSA").root_pem)
    said = desk.bodycam("verify", *roots[:2], "--tsa-root", other, str(desk.vault)).stdout
    assert "TIMESTAMP_UNTRUSTED" in said
    assert "TIMESTAMP_ABSENT" in said


def test_without_a_daemon_or_an_authority_it_says_what_to_do(desk: Desk) -> None:
    config = ["--config", str(desk.config)]
    unset = desk.bodycam("timestamp", "--once", *config)
    assert (unset.returncode, "time.authority_url" in unset.stderr) == (78, True)
    no_daemon = desk.bodycam("timestamp", "--once", "--authority", "http://127.0.0.1:9/", *config)
    assert (no_daemon.returncode, "bodycam run" in no_daemon.stderr) == (69, True)
    no_root = desk.bodycam("verify", "--tsa-root", str(desk.config), str(desk.vault))
    assert no_root.returncode == 66
