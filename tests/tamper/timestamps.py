"""Timestamps moved, replaced, replayed, of the wrong authority; and what they hold against who has the camera's key."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from tests.support.time_authority import NOW, time_authority
from tests.tamper.kind import Forger, Harm, Kind
from tests.tamper.log import Log

SECTION = "Timestamps"
Change = Callable[[Log], object]


def changed(change: Change, *, own_key: bool = True) -> Harm:
    """Something about the log; signed anew, or nothing repaired."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        change(log)
        if own_key:
            log.resign(forger.bases.camera.record_signer)
        else:
            log.save()

    return harm


def says(nth: int = 0, **fields: object) -> Change:
    return lambda log: log.first("timestamp", nth).update(fields)


@cache
def token(data: bytes, name: str = "Test TSA", *, expired: bool = False, at: datetime | None = None) -> bytes:
    """A response of an authority over some bytes."""
    request = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build().as_bytes()
    return time_authority(name, expired=expired).at(at or NOW)(request)


def stamped_by(name: str, *, expired: bool = False) -> Change:
    """The last token replaced by one of another authority over the same record."""

    def change(log: Log) -> None:
        fields = log.first("timestamp", -1)
        head = next(line for line in log.lines if line.fields["seq"] == fields["head_seq"])
        at = datetime.strptime(fields["gen_time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        data = token(head.json_bytes(), name, expired=expired, at=at)
        fields["response"] = base64.b64encode(data).decode()

    return change


def response_bit(where: int) -> Change:
    def change(log: Log) -> None:
        fields = log.first("timestamp", -1)
        data = bytearray(base64.b64decode(fields["response"]))
        data[where] ^= 1
        fields["response"] = base64.b64encode(data).decode()

    return change


def exchanged_tokens(log: Log) -> None:
    """What the authority said, the one for the other."""
    one, two = log.first("timestamp", 0), log.first("timestamp", 1)
    for name in ("response", "gen_time"):
        one[name], two[name] = two[name], one[name]


def moved_records(log: Log) -> None:
    one = log.at("timestamp", 0)
    log.lines.append(log.lines.pop(one))


def moved_to_the_front(log: Log) -> None:
    log.lines.insert(1, log.lines.pop(log.at("timestamp", -1)))


def replayed(log: Log) -> None:
    log.lines.append(log.lines[log.at("timestamp", -1)].copy())


def of_another_recording(log: Log) -> None:
    theirs = SIBLING[0].first("timestamp", 0)
    log.first("timestamp", -1).update({name: theirs[name] for name in ("response", "gen_time")})


def of_another_recording_whole(log: Log) -> None:
    theirs = SIBLING[0].first("timestamp", 0)
    log.first("timestamp", -1).update(
        {name: theirs[name] for name in ("response", "gen_time", "head_seq", "head_sha256")}
    )


SIBLING: list[Log] = []


def with_sibling(change: Change, *, own_key: bool = True) -> Harm:
    def harm(forger: Forger) -> None:
        SIBLING[:] = [Log(forger.bases.packages["stamped sibling"])]
        changed(change, own_key=own_key)(forger)

    return harm


def none_left(log: Log) -> None:
    log.lines = [line for line in log.lines if line.type != "timestamp"]


def last_gone(log: Log) -> None:
    del log.lines[log.at("timestamp", -1)]


def story_changed(log: Log) -> None:
    """What whoever holds the key would like: a record under the tokens says something else."""
    log.first("trigger")["source"] = "control"


def story_changed_and_restamped(log: Log) -> None:
    """And has today's authority stamp the new head: it cannot stamp it in the past."""
    story_changed(log)
    none_left(log)


def clock_turned(log: Log) -> None:
    """All claimed times of the recording two hours earlier."""
    for line in log.lines:
        if "recording_id" in line.fields:
            at = datetime.fromisoformat(line.fields["utc"]) - timedelta(hours=2)
            line.fields["utc"] = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def head_renamed(log: Log) -> None:
    fields = log.first("timestamp", -1)
    fields["head_sha256"] = hashlib.sha256(b"something").hexdigest()


KINDS = [
    Kind(SECTION, "a timestamp's record moved", "stamped", changed(moved_records, own_key=False)),
    Kind(SECTION, "a timestamp's record taken out", "stamped", changed(last_gone, own_key=False)),
    Kind(SECTION, "a timestamp's time edited", "stamped",
         changed(says(gen_time="2020-01-01T00:00:00Z"), own_key=False)),
    Kind(SECTION, "a timestamp's record moved to the end, with the camera's key", "stamped",
         changed(moved_records)),
    Kind(SECTION, "a timestamp's record moved to the front, with the camera's key", "stamped",
         changed(moved_to_the_front)),
    Kind(SECTION, "tokens exchanged, with the camera's key", "stamped", changed(exchanged_tokens)),
    Kind(SECTION, "a timestamp replayed, with the camera's key", "stamped", changed(replayed)),
    Kind(SECTION, "the token of another recording, with the camera's key", "stamped",
         with_sibling(of_another_recording)),
    Kind(SECTION, "token and head of another recording, with the camera's key", "stamped",
         with_sibling(of_another_recording_whole)),
    Kind(SECTION, "another head named, with the camera's key", "stamped", changed(head_renamed)),
    Kind(SECTION, "an earlier record named, with the camera's key", "stamped", changed(says(1, head_seq=1))),
    Kind(SECTION, "another time written beside the token, with the camera's key", "stamped",
         changed(says(gen_time="2020-01-01T00:00:00Z"))),
    Kind(SECTION, "asked for after it came, with the camera's key", "stamped",
         changed(says(requested_boottime_ns=1 << 62))),
    Kind(SECTION, "a head that is no number, with the camera's key", "stamped", changed(says(head_seq="7"))),
    Kind(SECTION, "a response that is none, with the camera's key", "stamped", changed(says(response="AAAA"))),
    Kind(SECTION, "a response that is no base64, with the camera's key", "stamped", changed(says(response="?"))),
    Kind(SECTION, "a bit of the token's signature, with the camera's key", "stamped", changed(response_bit(-5))),
    Kind(SECTION, "a token of an authority that nobody trusts, with the camera's key", "stamped",
         changed(stamped_by("Other TSA"))),
    Kind(SECTION, "a token of an authority whose certificate had expired, with the camera's key", "stamped",
         changed(stamped_by("Old TSA", expired=True))),
    Kind(SECTION, "a record under the tokens edited, all signed anew with the camera's key", "stamped",
         changed(story_changed)),
    Kind(SECTION, "the claimed times turned back, all signed anew with the camera's key", "stamped",
         changed(clock_turned)),
    Kind(SECTION, "the last timestamp left out, with the camera's key", "stamped", changed(last_gone)),
    Kind(SECTION, "a record edited and all timestamps left out, with the camera's key", "stamped",
         changed(story_changed_and_restamped)),
]  # fmt: skip
