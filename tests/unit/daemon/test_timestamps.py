"""`run`'s side of a timestamp: one request outstanding, one answer taken, once."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.clock import NS_PER_S
from agent.daemon.timestamps import REQUEST_LIFETIME_NS, TimestampDesk
from agent.errors import ControlError, TimestampError
from agent.offload.timestamp import Taken, take_timestamp
from agent.vault.journal import Journal
from agent.vault.record import Record, parse_line, sha256_hex
from tests.support.stamping import DirectStorage
from tests.support.time_authority import time_authority
from tests.support.vault_builder import DEVICE_ID, VaultBuilder


class Camera:
    """A vault and the two commands, as the control socket offers them."""

    def __init__(self, root: Path) -> None:
        self.vault = VaultBuilder(root)
        self.desk = TimestampDesk(DirectStorage(self.vault), self.vault.clock)
        self.asked: list[str] = []

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(message["command"])
        handlers = {"timestamp-request": self.desk.request, "timestamp-token": self.desk.token}
        return handlers[message["command"]](message)

    def request(self) -> bytes:
        return base64.b64decode(self.desk.request({})["request"])

    def token(self, response: bytes) -> dict[str, Any]:
        return self.desk.token({"response": base64.b64encode(response).decode()})

    def records(self) -> list[Record]:
        lines = (self.vault.layout.journal / "000001.journal").read_bytes().splitlines()
        return [parse_line(line) for line in lines]

    def stamps(self) -> list[Record]:
        return [record for record in self.records() if record.type == "timestamp"]


@pytest.fixture
def camera(tmp_path: Path) -> Camera:
    return Camera(tmp_path / "vault")


def test_a_token_over_the_head_is_journalled(camera: Camera) -> None:
    head = camera.records()[-1]
    camera.vault.clock.advance_ns(NS_PER_S)
    taken = take_timestamp(camera.ask, time_authority())
    (record,) = camera.stamps()
    assert taken == Taken(head.seq, record.fields["gen_time"])
    assert camera.asked == ["timestamp-request", "timestamp-token"]
    assert record.signature is not None
    assert (record.fields["head_seq"], record.fields["head_sha256"]) == (head.seq, head.sha256)
    assert record.fields["authority"] == "CN=Test TSA"
    assert record.fields["requested_boottime_ns"] == record.fields["boottime_ns"]
    assert base64.b64decode(record.fields["response"])[:1] == b"\x30"
    assert {"type", "head_seq", "head_sha256", "requested_boottime_ns", "gen_time", "authority", "response"} <= set(
        record.fields
    )


def test_each_token_is_over_all_there_was(camera: Camera) -> None:
    for _ in range(3):
        head = camera.records()[-1]
        take_timestamp(camera.ask, time_authority())
        assert camera.stamps()[-1].fields["head_sha256"] == head.sha256 == sha256_hex(head.json_bytes)


def test_the_head_is_right_after_a_restart_before_anything_is_written(camera: Camera) -> None:
    camera.vault.shut_down()
    last = camera.records()[-1]
    vault = camera.vault
    opened = Journal(
        vault.filesystem, vault.layout.journal, vault.signer, vault.clock, device_id=DEVICE_ID, rotate_bytes=1 << 20
    )
    assert opened.head == (last.seq, sha256_hex(opened.head_json))
    camera.vault.restart()
    assert parse_line((camera.vault.layout.journal / "000002.journal").read_bytes().splitlines()[0]).prev == last.sha256
    seq, json_bytes = camera.vault.recorder.journal_head
    assert (seq, sha256_hex(json_bytes)) == camera.vault.journal.head


def test_a_token_is_taken_once(camera: Camera) -> None:
    response = time_authority()(camera.request())
    camera.token(response)
    with pytest.raises(TimestampError, match="outstanding"):
        camera.token(response)
    camera.request()
    with pytest.raises(TimestampError, match="something else"):
        camera.token(response)
    assert len(camera.stamps()) == 1


def test_a_token_for_the_same_head_and_another_nonce_is_refused(camera: Camera) -> None:
    first = camera.request()
    camera.request()  # nothing was journalled in between: the imprint is the same
    with pytest.raises(TimestampError, match="nonce"):
        camera.token(time_authority()(first))
    assert camera.stamps() == []


def test_a_wrong_answer_does_not_void_the_request(camera: Camera) -> None:
    request = camera.request()
    for wrong in (b"", b"\x30\x00", time_authority("TSA without SHA-256", digests="sha512")(request)):
        with pytest.raises(TimestampError):
            camera.token(wrong)
    camera.token(time_authority()(request))
    assert len(camera.stamps()) == 1


def test_a_late_answer_is_refused(camera: Camera) -> None:
    response = time_authority()(camera.request())
    camera.vault.clock.advance_ns(REQUEST_LIFETIME_NS + 1)
    with pytest.raises(TimestampError, match="more than 120 s"):
        camera.token(response)
    with pytest.raises(TimestampError, match="outstanding"):
        camera.token(response)


def test_an_answer_in_the_last_moment_is_taken(camera: Camera) -> None:
    response = time_authority()(camera.request())
    camera.vault.clock.advance_ns(REQUEST_LIFETIME_NS)
    camera.token(response)


@pytest.mark.parametrize("value", [None, 7, [], "no base64!", "ä", "AA"])
def test_what_is_no_base64_is_refused(camera: Camera, value: object) -> None:
    camera.request()
    with pytest.raises(TimestampError, match="base64"):
        camera.desk.token({"command": "timestamp-token", "response": value})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=9), st.none() | st.text(max_size=40) | st.binary(max_size=90).map(repr)))
def test_any_message_ends_in_our_own_error(camera: Camera, message: dict[str, Any]) -> None:
    camera.request()
    with pytest.raises(TimestampError):
        camera.desk.token(message)


def test_a_failing_card_is_told_and_the_token_written_when_it_works_again(camera: Camera) -> None:
    response = time_authority()(camera.request())
    camera.vault.filesystem.fail_next_sync_of = "000001.journal"
    camera.token(response)
    camera.vault.retry()
    lines = (camera.vault.layout.journal / "000002.journal").read_bytes().splitlines()
    assert [parse_line(line).type for line in lines].count("timestamp") == 1


def test_an_older_daemon_is_named_as_the_reason(camera: Camera) -> None:
    with pytest.raises(ControlError, match="another version"):
        take_timestamp(lambda _: {"request": "%"}, time_authority())
    with pytest.raises(ControlError, match="another version"):
        take_timestamp(lambda _: {"request": "AAAA"}, lambda request: request)
    assert camera.stamps() == []
