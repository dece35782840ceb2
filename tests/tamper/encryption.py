"""Encrypted recordings: what is found without the evidence system's key, and what only with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from agent.encryption.recipients import Recipients
from tests.support.evidence_key import EVIDENCE, EvidenceKey, opened
from tests.tamper.kind import Forger, Harm, Kind
from tests.tamper.log import Log

SECTION = "Encryption"
SEGMENT = "000001.m4s.age"


def says(type_: str, nth: int = 0, *, own_key: bool = True, **fields: object) -> Harm:
    """One record says something else; signed anew, or left as it is."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        log.first(type_, nth).update(fields)
        if own_key:
            log.resign(forger.bases.camera.record_signer)
        else:
            log.save()

    return harm


def both_say(**fields: object) -> Harm:
    """The first segment's last checkpoint and its segment record say it alike."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        log.first("checkpoint", 1).update(fields)
        log.first("segment").update(fields)
        log.resign(forger.bases.camera.record_signer)

    return harm


def lacks(type_: str, *, own_key: bool) -> Harm:
    def harm(forger: Forger) -> None:
        log = forger.log()
        del log.lines[log.at(type_)]
        if own_key:
            log.resign(forger.bases.camera.record_signer)
        else:
            log.save()

    return harm


def resealed(seal: Callable[[Forger], str], *, own_key: bool) -> Harm:
    def harm(forger: Forger) -> None:
        log = forger.log()
        log.first("recording-open")["sealed"] = seal(forger)
        if own_key:
            log.resign(forger.bases.camera.record_signer)
        else:
            log.save()

    return harm


def sealed_of_another(forger: Forger) -> str:
    return str(Log(forger.bases.packages["encrypted sibling"]).first("recording-open")["sealed"])


def sealed_anew(_: Forger) -> str:
    """Anybody can encrypt to a public key."""
    return Recipients([EVIDENCE.recipient]).seal({"wearer": "Somebody Else"})


def encrypted_to(plain: bytes, *recipients: str) -> bytes:
    stream = Recipients(recipients).new_stream()
    return stream.add(plain) + stream.finish()


def header_of_another(forger: Forger) -> None:
    """The header, which says for whom it is, of a file to others; the payload stays.

    To so many others that it is longer than the true one, whatever age puts between for camouflage ("grease").
    """
    theirs = encrypted_to(b"nothing", *(EvidenceKey.generate().recipient for _ in range(12)))
    mine = forger.read(SEGMENT)
    assert payload_at(theirs) > payload_at(mine)
    forger.write(SEGMENT, theirs[: payload_at(theirs)] + mine[payload_at(mine) :])


def payload_at(data: bytes) -> int:
    """Behind the line of the header's MAC (age-encryption.org/v1, "Header")."""
    return data.index(b"\n", data.index(b"\n--- ") + 1) + 1


def header_and_records(forger: Forger) -> None:
    header_of_another(forger)
    vouch_whole(forger)


def vouch_whole(forger: Forger) -> None:
    """Have the records say the hash of the file as it lies, with the camera's key."""
    log = forger.log()
    data = forger.read(SEGMENT)
    checkpoints = [line.fields for line in log.lines if line.type == "checkpoint" and line.fields["file"] == SEGMENT]
    for checkpoint in checkpoints[:-1]:
        checkpoint["sha256"] = hashlib.sha256(data[: checkpoint["bytes"]]).hexdigest()
    segment, close = log.first("segment"), log.first("recording-close")
    close["bytes"] += len(data) - segment["bytes"]
    for fields in (checkpoints[-1], segment):
        fields |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    log.resign(forger.bases.camera.record_signer)


def of_another(forger: Forger) -> None:
    forger.write(SEGMENT, forger.steal("encrypted sibling", SEGMENT))


def clear_in_its_place(forger: Forger) -> None:
    """The clear file under the name of the encrypted one: whoever has the key could have done it."""
    forger.write(SEGMENT, opened(forger.read(SEGMENT)))


def clear_beside(forger: Forger) -> None:
    forger.write("000001.m4s", opened(forger.read(SEGMENT)))


def encrypted_anew(forger: Forger) -> None:
    """Another video, encrypted to the right key; the records say its hash, the camera's key signs them."""
    plain = bytearray(opened(forger.read(SEGMENT)))
    plain[-20] ^= 1
    forger.write(SEGMENT, encrypted_to(bytes(plain), EVIDENCE.recipient))
    vouch_whole(forger)


def re_enrolled(forger: Forger) -> None:
    """A record in the middle says that the camera encrypts to the forger from there on."""
    log = forger.log()
    line = log.lines[log.at("encryption")].copy()
    line.fields |= {"recipients": [EvidenceKey.generate().recipient], "reason": "unchanged"}
    log.lines.insert(log.at("recording-open"), line)
    log.resign(forger.bases.camera.record_signer)


def re_enrolled_by_the_book(forger: Forger) -> None:
    log = forger.log()
    line = log.lines[log.at("encryption")].copy()
    previous = line.fields["recipients"]
    line.fields |= {
        "recipients": [EvidenceKey.generate().recipient], "reason": "re-enrolled", "previous": previous,
    }  # fmt: skip
    log.lines.insert(log.at("recording-open"), line)
    log.resign(forger.bases.camera.record_signer)


def clear_in_the_log(forger: Forger) -> None:
    """Records of a clear segment in a camera that encrypts."""
    log = forger.log()
    for line in log.lines:
        if line.fields.get("file") == SEGMENT:
            line.fields["file"] = "000001.m4s"
    log.resign(forger.bases.camera.record_signer)
    forger.path(SEGMENT).rename(forger.path("000001.m4s"))


KINDS = [
    Kind(SECTION, "a bit of the encrypted video", "encrypted",
         lambda f: f.write(SEGMENT, f.read(SEGMENT)[:500] + bytes([f.read(SEGMENT)[500] ^ 1]) + f.read(SEGMENT)[501:])),
    Kind(SECTION, "plain_sha256 edited", "encrypted", says("segment", own_key=False, plain_sha256="0" * 64)),
    Kind(SECTION, "plain_bytes edited", "encrypted", says("checkpoint", own_key=False, plain_bytes=65536 * 9)),
    Kind(SECTION, "plain_sha256 edited in the segment's record, with the camera's key", "encrypted",
         says("segment", plain_sha256="0" * 64)),
    Kind(SECTION, "plain_sha256 edited in a checkpoint, with the camera's key", "encrypted",
         says("checkpoint", plain_sha256="0" * 64)),
    Kind(SECTION, "plain_sha256 edited in a checkpoint, with the camera's key, and looked into", "encrypted",
         says("checkpoint", plain_sha256="0" * 64), opened=True),
    Kind(SECTION, "plain_bytes edited in a checkpoint, with the camera's key", "encrypted",
         says("checkpoint", plain_bytes=1)),
    Kind(SECTION, "plain_bytes edited in a checkpoint, with the camera's key, and looked into", "encrypted",
         says("checkpoint", plain_bytes=1), opened=True),
    Kind(SECTION, "plain_sha256 edited in both records, with the camera's key", "encrypted",
         both_say(plain_sha256="0" * 64)),
    Kind(SECTION, "plain_sha256 edited in both records, with the camera's key, and looked into", "encrypted",
         both_say(plain_sha256="0" * 64), opened=True),
    Kind(SECTION, "plain_bytes is no number", "encrypted", says("checkpoint", plain_bytes="1")),
    Kind(SECTION, "the encryption record edited", "encrypted", says("encryption", own_key=False, recipients=[])),
    Kind(SECTION, "the encryption record taken out", "encrypted", lacks("encryption", own_key=False)),
    Kind(SECTION, "the encryption record taken out, with the camera's key", "encrypted",
         lacks("encryption", own_key=True)),
    Kind(SECTION, "no recipients, says the camera's key", "encrypted", says("encryption", recipients=[])),
    Kind(SECTION, "recipients that are no list", "encrypted", says("encryption", recipients="nobody")),
    Kind(SECTION, "a reason that is none", "encrypted", says("encryption", reason="because")),
    Kind(SECTION, "other recipients from the middle on", "encrypted", re_enrolled),
    Kind(SECTION, "other recipients from the middle on, called a re-enrolment", "encrypted",
         re_enrolled_by_the_book),
    Kind(SECTION, "clear segment under recipients", "encrypted", clear_in_its_place),
    Kind(SECTION, "clear segment beside the encrypted one", "encrypted", clear_beside),
    Kind(SECTION, "records of a clear segment under recipients, with the camera's key", "encrypted",
         clear_in_the_log),
    Kind(SECTION, "the sealed wearer of another recording", "encrypted",
         resealed(sealed_of_another, own_key=False)),
    Kind(SECTION, "a sealed wearer that anybody could seal", "encrypted", resealed(sealed_anew, own_key=False)),
    Kind(SECTION, "the sealed wearer of another recording, with the camera's key", "encrypted",
         resealed(sealed_of_another, own_key=True)),
    Kind(SECTION, "a sealed wearer that nobody can open, with the camera's key, and looked into", "encrypted",
         resealed(lambda _: "AAAA", own_key=True), opened=True),
    Kind(SECTION, "the age header of a file to somebody else", "encrypted", header_of_another),
    Kind(SECTION, "the age header of a file to somebody else, with the camera's key", "encrypted",
         header_and_records),
    Kind(SECTION, "the age header of a file to somebody else, with the camera's key, and looked into", "encrypted",
         header_and_records, opened=True),
    Kind(SECTION, "the encrypted segment of another recording", "encrypted", of_another),
    Kind(SECTION, "another video encrypted to the right key, with the camera's key", "encrypted", encrypted_anew),
    Kind(SECTION, "another video encrypted to the right key, with the camera's key, and looked into", "encrypted",
         encrypted_anew, opened=True),
]  # fmt: skip
