"""A verifier of evidence packages written from docs/evidence-format.md alone, to see that the page suffices.

It imports nothing of the project and shares no code with it. Where it and `bodycam verify` disagree, the page or one of
them is wrong. Standards that the page cites are used as they are: RFC 8259, RFC 5652, X.690, ISO/IEC 14496-12.
What timestamps say is in second_timestamps.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

COMMON = ["v", "seq", "prev", "type", "utc", "boottime_ns", "boot_id", "clock_source", "clock_uncertainty_ms"]
EMPTY = hashlib.sha256().hexdigest()
HASH = re.compile(r"[0-9a-f]{64}")
SEGMENT = re.compile(r"[0-9]{6}\.m4s(\.age)?")
SUM = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?)")
MARKER = re.compile(
    r"Evidence-Package: 1\nDevice: ([A-Za-z0-9][A-Za-z0-9._-]{0,63})\nRecording: "
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\n"
)
PAGES = {
    "PACKAGE.txt", "recording.json", "support.json", "support.txt", "README.txt", "VERIFY.txt", "verify.sh",
}  # fmt: skip


class Refused(Exception):
    """The package is not what the page says, or not what was signed."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise Refused(what)


def plain(path: Path) -> bytes:
    need(path.is_file() and not path.is_symlink(), f"{path.name} is there and a plain file")
    return path.read_bytes()


def verify_package(folder: Path, roots: list[x509.Certificate]) -> None:
    """Raises Refused with the rule that does not hold."""
    marker = MARKER.fullmatch(plain(folder / "PACKAGE.txt").decode("ascii", "replace"))
    need(marker, "PACKAGE.txt has its three lines")
    assert marker is not None
    check_files(folder)
    records = read_extract(folder / "journal")
    check_signatures(folder / "device", records, roots, marker[2])
    recording = Recording(folder, marker[2])
    device = named = None
    for record in records:
        if record.type == "journal-open":
            device = text(record.fields, "device_id")
        if record.type == "boot" and "witness" in record.fields:
            check_witness(record.fields)
        if record.fields.get("recording_id") == marker[2] and record.type != "offload":
            named = named or device
            recording.take(record.type, record.fields)
    name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
    need(named is None or marker[1] == (named if name.fullmatch(named) else "unnamed-camera"), "it is of that camera")
    recording.finish()


def check_witness(fields: dict[str, Any]) -> None:
    said = text(fields, "witness")
    if said in ("agrees", "told", "out-of-reach", "absent", "unreadable"):
        return
    if said == "another-journal":
        number(fields, "witness_seq")
        return
    need(said in ("lost", "differs"), "a witness says what there is to say")
    remembered, found = number(fields, "witness_seq"), number(fields, "witness_found_seq")
    digest(fields, "witness_sha256")
    need(found < fields["seq"] and (found < remembered) == (said == "lost"), "a witness does not contradict itself")


def check_files(folder: Path) -> None:
    listed: dict[str, str] = {}
    *lines, rest = plain(folder / "SHA256SUMS").decode("ascii", "replace").split("\n")
    need(rest == "", "SHA256SUMS ends with a line feed")
    for line in lines:
        match = SUM.fullmatch(line)
        need(match and match[2] not in listed, "each line of SHA256SUMS is a hash of another file")
        assert match is not None
        listed[match[2]] = match[1]
    need(list(listed) == sorted(listed), "SHA256SUMS is sorted")
    there = set()
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_dir() and not path.is_symlink():
            need(name in ("journal", "device"), f"there is no folder {name}")
        elif not re.fullmatch(r"\..+\.part", path.name):
            there.add(name)
    need(there - {"SHA256SUMS"} == set(listed), "the files are those of SHA256SUMS")
    for name, sha256 in listed.items():
        need(hashlib.sha256(plain(folder / name)).hexdigest() == sha256, f"{name} has its sum")
    need(PAGES | {"device/chain.pem"} <= set(listed), "every part of a package is there")


@dataclass
class Record:
    """A line: its JSON as bytes and parsed, and its signature, None when pending."""

    data: bytes
    fields: dict[str, Any]
    signature: bytes | None

    @property
    def type(self) -> str:
        return str(self.fields["type"])

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def read_line(line: bytes) -> Record:
    need(len(line) <= 1 << 20, "a line is at most 1 MiB")
    parts = line.split(b"\t")
    need(len(parts) == 2, "a line is JSON, a TAB and a signature")
    data, column = parts
    need(all(0x20 <= byte <= 0x7E for byte in data), "JSON is printable ASCII")
    need(data.count(b"[") + data.count(b"{") <= 10_000, "there are at most 10 000 brackets")

    def one(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(pairs)) == len(pairs), "no key stands twice")
        return dict(pairs)

    try:
        fields = json.loads(data, object_pairs_hook=one)
    except (ValueError, RecursionError) as error:
        raise Refused("it is JSON") from error
    need(isinstance(fields, dict) and list(fields)[:9] == COMMON, "the common fields come first")
    need(json.dumps(fields, separators=(",", ":")).encode() == data, "there is one way to write it")
    need(depth(fields) <= 16, "it has at most 16 levels")
    need(fields["v"] == 1, "it is of version 1")
    need(number(fields, "seq") and HASH.fullmatch(text(fields, "prev")), "it is numbered and chained")
    if column == b"-":
        return Record(data, fields, None)
    try:
        signature = base64.b64decode(column, validate=True)
    except ValueError as error:
        raise Refused("the signature is base64") from error
    need(signature and base64.b64encode(signature) == column, "the signature is base64 in its one form")
    return Record(data, fields, signature)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 1 if inner is None else 1 + max((depth(item) for item in inner), default=0)


def number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    need(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63, f"{name} is a number")
    assert isinstance(value, int)
    return value


def text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    need(isinstance(value, str), f"{name} is text")
    return str(value)


def digest(fields: dict[str, Any], name: str) -> str:
    need(HASH.fullmatch(text(fields, name)), f"{name} is a SHA-256")
    return text(fields, name)


def read_extract(folder: Path) -> list[Record]:
    names = sorted(path.name for path in folder.iterdir() if re.fullmatch(r"[0-9]{6}\.journal", path.name))
    need(names, "there is a journal")
    contents = [plain(folder / name) for name in names]
    openings = [read_line(data.split(b"\n", 1)[0]) for data in contents]
    need(openings[0].fields.get("reason") in ("first", "started", "recovered"), "an extract begins with a run")
    records: list[Record] = []
    for index, (name, data) in enumerate(zip(names, contents, strict=True)):
        opening = openings[index]
        need(opening.type == "journal-open" and opening.fields.get("file") == name, "a file begins with its opening")
        if index + 1 < len(names):
            need(int(names[index + 1][:6]) == int(name[:6]) + 1, "no file is missing")
            following = openings[index + 1].fields
            need(following.get("prev_file") == name, "a file follows on the one before it")
            end = number(following, "prev_file_bytes")
            need(end <= len(data), "no file is shorter than the next one says")
            data, torn = data[:end], data[end:]
            if following.get("torn_exact") is not False:
                said = number(following, "torn_bytes"), digest(following, "torn_sha256")
                need(said == (len(torn), hashlib.sha256(torn).hexdigest()), "a torn tail is the one that was named")
            else:
                need(not torn, "a package leaves out what lies outside the chain")
        *lines, rest = data.split(b"\n")
        need(rest == b"", "a file's chained part ends with a whole line")
        for position, line in enumerate(lines):
            record = read_line(line)
            need((record.type == "journal-open") == (position == 0), "an opening stands first and only there")
            if records:
                need(record.fields["seq"] == records[-1].fields["seq"] + 1, "no record is missing")
                need(record.fields["prev"] == records[-1].sha256, "each record holds the hash of the one before")
            records.append(record)
    return records


def tlv(tag: int, *content: bytes) -> bytes:
    joined = b"".join(content)
    length = len(joined).to_bytes((max(len(joined).bit_length(), 1) + 7) // 8, "big")
    return bytes([tag]) + (length if len(joined) < 128 else bytes([0x80 | len(length)]) + length) + joined


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    out = b""
    for value in (first * 40 + second, *rest):
        groups = [value & 0x7F]
        while value := value >> 7:
            groups.append(value & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return tlv(6, out)


def integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def cms(certificate: x509.Certificate, signature: bytes) -> bytes:
    sha256 = tlv(0x30, oid("2.16.840.1.101.3.4.2.1"), b"\x05\x00")
    signer = tlv(
        0x30,
        integer(1),
        tlv(0x30, certificate.issuer.public_bytes(), integer(certificate.serial_number)),
        sha256,
        tlv(0x30, oid("1.2.840.10045.4.3.2")),
        tlv(4, signature),
    )
    data = tlv(0x30, oid("1.2.840.113549.1.7.1"))
    signed = tlv(0x30, integer(1), tlv(0x31, sha256), data, tlv(0x31, signer))
    return tlv(0x30, oid("1.2.840.113549.1.7.2"), tlv(0xA0, signed))


def signs(certificate: x509.Certificate, record: Record) -> bool:
    key, der = certificate.public_key(), record.signature or b""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return False
    for size in range(8, 73):
        signature = der[-size:]
        try:
            canonical = encode_dss_signature(*decode_dss_signature(signature)) == signature
        except ValueError:
            continue
        if canonical and cms(certificate, signature) == der:
            try:
                key.verify(signature, record.data, ec.ECDSA(SHA256()))
            except InvalidSignature:
                return False
            return True
    return False


def check_signatures(device: Path, records: list[Record], roots: list[x509.Certificate], recording_id: str) -> None:
    try:
        files = [plain(path) for path in sorted(device.glob("*.pem")) if path.stem != "root"]
        chains = [x509.load_pem_x509_certificates(data) for data in files]
    except ValueError as error:
        raise Refused("the certificates can be read") from error
    for data, chain in zip(files, chains, strict=True):
        need(b"".join(one.public_bytes(Encoding.PEM) for one in chain) == data, "a chain is PEM and nothing else")
    known = [certificate for chain in chains for certificate in chain]
    by_hash = {certificate.fingerprint(SHA256()).hex(): certificate for certificate in known}
    signer = None
    signers: list[x509.Certificate | None] = []
    for record in records:
        if record.type == "journal-open":
            signer = by_hash.get(digest(record.fields, "certificate_sha256"))
        signers.append(signer)
    # Those under which the recording stands answer for it, to the record whose signature covers its end.
    own = [
        index for index, record in enumerate(records)
        if record.fields.get("recording_id") == recording_id and record.type != "offload"
    ] or [0, len(records) - 1]  # fmt: skip
    covers = [index for index, record in enumerate(records) if index >= own[-1] and record.signature is not None]
    answer = signers[own[0] : (covers[0] if covers else len(records) - 1) + 1]
    need(None not in answer, "the certificate that a file names is there")
    for certificate in {certificate for certificate in answer if certificate is not None}:
        check_chain(certificate, known, roots)
    pending: list[Record] = []
    for record, signer in zip(records, signers, strict=True):
        pending.append(record)
        if record.signature is not None and signer is not None:
            need(signs(signer, record), f"the signature of record {record.fields['seq']} fits")
            claimed = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})Z", text(record.fields, "utc"))
            need(claimed, "utc is a time")
            assert claimed is not None
            moment = datetime.fromisoformat(claimed[1]).replace(tzinfo=UTC)
            in_time = moment <= signer.not_valid_after_utc or signer not in answer
            need(in_time, "no record was signed after the certificate expired")
            pending.clear()
    need(not any(record.fields.get("recording_id") == recording_id for record in pending), "a signature covers its end")


def check_chain(device: x509.Certificate, known: list[x509.Certificate], roots: list[x509.Certificate]) -> None:
    certificate = device
    need(ExtendedKeyUsageOID.EMAIL_PROTECTION in extension(certificate, x509.ExtendedKeyUsage), "it may sign")
    need(extension(certificate, x509.KeyUsage).digital_signature, "it may sign")
    need(not extension(certificate, x509.BasicConstraints).ca, "a device is no CA")
    for _ in range(8):
        for issuer in [*roots, *known]:
            try:
                certificate.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature):
                continue
            algorithm = certificate.signature_hash_algorithm
            need(algorithm and algorithm.name in ("sha256", "sha384", "sha512"), "it is signed with a sound hash")
            need(extension(issuer, x509.BasicConstraints).ca, "an issuer is a CA")
            need(extension(issuer, x509.KeyUsage).key_cert_sign, "an issuer may sign certificates")
            break
        else:
            break
        if issuer in roots:
            return
        certificate = issuer
    raise Refused("the certificate leads to the root")


def extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise Refused("a certificate has the extensions that the page names") from error


@dataclass
class Recording:
    """The records of one recording, in order, against each other and the media."""

    folder: Path
    recording_id: str
    triggered: bool = False
    trigger_journalled: bool = False
    opened: bool = False
    closed: bool = False
    recovered: bool = False
    gap: bool = False
    fragment: int = 0
    end: int = 0
    files: set[str] = field(default_factory=set)
    checkpoints: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=set)
    totals: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("segments", "fragments", "frames", "bytes", "end_media_90k", "gaps"), 0)
    )

    def take(self, type_: str, fields: dict[str, Any]) -> None:
        need(not self.closed, "nothing follows on the closing record")
        if type_ == "trigger":
            need(not self.triggered, "it was triggered once")
            self.triggered = True
        elif type_ == "recording-open":
            need(not self.opened, "it was opened once")
            self.opened = True
            self.init(fields)
        elif type_ == "checkpoint":
            self.checkpoint(fields)
        elif type_ == "segment":
            self.segment(fields)
        elif type_ == "gap":
            self.gap = True
            self.totals["gaps"] += 1
        elif type_ == "recording-close":
            self.closed = True
            self.recovered = fields.get("recovered") is True
            self.trigger_journalled = fields.get("triggered") is True
            if self.recovered and fields.get("init_file") is not None:
                self.init(fields)
            need({name: number(fields, name) for name in self.totals} == self.totals, "the totals are the sums")
            need(set(self.checkpoints) <= self.sealed, "each segment was sealed")
            need(self.recovered or number(fields, "missed_frames") >= 0, "it says how many frames never came")

    def init(self, fields: dict[str, Any]) -> None:
        need(fields.get("init_file") == "init.mp4", "init_file is init.mp4")
        data = plain(self.folder / "init.mp4")
        said = number(fields, "init_bytes"), digest(fields, "init_sha256")
        need(said == (len(data), hashlib.sha256(data).hexdigest()), "init.mp4 is the one that was signed")
        self.files.add("init.mp4")

    def name(self, fields: dict[str, Any]) -> str:
        name = text(fields, "file")
        need(SEGMENT.fullmatch(name), "a segment is named like one")
        need(name not in self.sealed, "a sealed segment does not change")
        return name

    def checkpoint(self, fields: dict[str, Any]) -> None:
        need(self.opened, "a checkpoint comes behind the opening")
        name = self.name(fields)
        before = self.checkpoints.setdefault(name, [])
        begin, end = number(fields, "first_media_90k"), number(fields, "end_media_90k")
        number(fields, "frames"), number(fields, "audio_frames"), digest(fields, "sha256")
        need(number(fields, "fragment") == self.fragment + 1, "fragments go up by one")
        need(number(fields, "bytes") > (before[-1]["bytes"] if before else 0), "bytes go up")
        need(end > begin and (begin == self.end or (self.gap and begin > self.end)), "media time has no holes")
        if name.endswith(".age"):
            need(number(fields, "plain_bytes") > (before[-1]["plain_bytes"] if before else 0), "plain bytes go up")
            digest(fields, "plain_sha256")
        before.append(fields)
        self.fragment, self.end, self.gap = self.fragment + 1, end, False

    def segment(self, fields: dict[str, Any]) -> None:
        name, state, size = self.name(fields), text(fields, "state"), number(fields, "bytes")
        sha256, checkpoints = digest(fields, "sha256"), self.checkpoints.get(name, [])
        need(state in ("whole", "torn", "recovered"), "a segment is whole, torn or recovered, and not missing")
        self.sealed.add(name)
        last: dict[str, Any] = checkpoints[-1] if checkpoints else {"bytes": 0, "sha256": EMPTY}
        ends = [fields.get("first_media_90k"), fields.get("end_media_90k")]
        ends_at = last
        if name.endswith(".age"):
            said_plain = number(fields, "plain_bytes"), digest(fields, "plain_sha256")
            if state == "whole" and checkpoints and size > int(str(last["bytes"])):
                ends_at = {"bytes": size, "sha256": sha256}  # an empty box and the end of the age file follow
            else:
                need(
                    said_plain == (last.get("plain_bytes", 0), last.get("plain_sha256", EMPTY)),
                    "a segment opens to what its last checkpoint says",
                )
        if state == "recovered":
            said = number(fields, "checkpointed_bytes"), digest(fields, "checkpointed_sha256")
            need(said == (last["bytes"], last["sha256"]), "a recovered segment names its last checkpoint")
            need(fields.get("checkpoint_intact") is True, "what was signed was intact at recovery")
            self.end = max(self.end, ends[1] or 0)
        else:
            said_all = [size, sha256, number(fields, "fragments"), *ends, number(fields, "frames")]
            need(
                [*said_all, number(fields, "audio_frames")]
                == [
                    ends_at["bytes"], ends_at["sha256"], len(checkpoints),
                    checkpoints[0]["first_media_90k"] if checkpoints else None, last.get("end_media_90k"),
                    sum(c["frames"] for c in checkpoints), sum(c["audio_frames"] for c in checkpoints),
                ],
                "a segment's record is what its checkpoints add up to",
            )  # fmt: skip
        self.totals["segments"] += 1
        self.totals["bytes"] += size
        self.totals["fragments"] += number(fields, "fragments")
        self.totals["frames"] += number(fields, "frames")
        self.totals["end_media_90k"] = max(self.totals["end_media_90k"], ends[1] or 0)
        if size:
            self.media(name, size, sha256, checkpoints)

    def media(self, name: str, size: int, sha256: str, checkpoints: list[dict[str, Any]]) -> None:
        data = plain(self.folder / name)
        need((size, sha256) == (len(data), hashlib.sha256(data).hexdigest()), f"{name} is what was signed")
        self.files.add(name)
        start = 0
        for said in checkpoints:
            end = said["bytes"]
            need(hashlib.sha256(data[:end]).hexdigest() == said["sha256"], "each running hash fits")
            if name.endswith(".age"):
                continue  # what it holds takes the evidence system's key
            found = fragment(data[start:end])
            names = ("fragment", "first_media_90k", "end_media_90k", "frames", "audio_frames")
            need(found == tuple(said[name] for name in names), "a fragment says what its checkpoint says")
            start = end

    def finish(self) -> None:
        need(self.closed, "it is closed")
        late = self.recovered and not self.opened and not self.trigger_journalled
        need(self.triggered or late, "it begins with its trigger")
        there = {path.name for path in self.folder.iterdir() if path.suffix != ".part"}
        need(
            there == self.files | PAGES | {"SHA256SUMS", "journal", "device"},
            "nothing lies there but what records name",
        )


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        need(len(data) >= 8, "a box has a head")
        size, kind = struct.unpack_from(">I4s", data)
        need(8 <= size <= len(data), "a box ends inside")
        yield kind, data[8:size]
        data = data[size:]


def fragment(data: bytes) -> tuple[int, int, int, int, int]:
    """Sequence number, begin, end, frames, audio frames of `moof` + `mdat` (ISO/IEC 14496-12 section 8.8)."""
    (first, moof), (second, _) = boxes(data)
    need((first, second) == (b"moof", b"mdat"), "a fragment is moof and mdat")
    sequence, tracks = 0, {}
    for kind, body in boxes(moof):
        if kind == b"mfhd":
            (sequence,) = struct.unpack_from(">I", body, 4)
        elif kind == b"traf":
            track, begin, duration, samples = track_run(body)
            tracks[track] = begin, duration, samples
    need(1 in tracks, "it has video")
    begin, duration, frames = tracks[1]
    return sequence, begin, begin + duration, frames, tracks[2][2] if 2 in tracks else 0


def track_run(traf: bytes) -> tuple[int, int, int, int]:
    track = begin = duration = samples = default_duration = 0
    for kind, body in boxes(traf):
        flags = int.from_bytes(body[1:4], "big")
        if kind == b"tfhd":
            (track,) = struct.unpack_from(">I", body, 4)
            at = 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
            default_duration = struct.unpack_from(">I", body, at)[0] if flags & 8 else 0
        elif kind == b"tfdt":
            (begin,) = struct.unpack_from(">Q" if body[0] else ">I", body, 4)
        elif kind == b"trun":
            (count,) = struct.unpack_from(">I", body, 4)
            at = 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
            step = 4 * sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
            samples += count
            for index in range(count):
                duration += struct.unpack_from(">I", body, at + index * step)[0] if flags & 0x100 else default_duration
    return track, begin, duration, samples
