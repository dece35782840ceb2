"""A package's journal in a forger's hands: lines taken apart, changed, and put together again with or without a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.vault.journal import RecordSigner
from agent.vault.record import Record, parse_line, sha256_hex
from tests.tamper.media import fragments


@dataclass
class Line:
    """One record. spell: what becomes of its JSON before it is hashed and signed, for JSON that no encoder writes."""

    file: str
    fields: dict[str, Any]
    signature: bytes | None
    spell: Callable[[bytes], bytes] = field(default=lambda data: data)

    @property
    def type(self) -> str:
        """What happened."""
        return str(self.fields["type"])

    def json_bytes(self) -> bytes:
        """As it is to stand there."""
        return self.spell(json.dumps(self.fields, separators=(",", ":")).encode())

    def copy(self) -> Line:
        """Another one that says the same."""
        return Line(self.file, dict(self.fields), self.signature, self.spell)


class Log:
    """All journal files of a package, one list of lines; what was torn behind a file's records stays where it is."""

    def __init__(self, package: Path) -> None:
        self.folder = package / "journal"
        self.lines: list[Line] = []
        self._tails: dict[str, bytes] = {}
        paths = sorted(self.folder.iterdir())
        for path, following in zip(paths, [*paths[1:], None], strict=True):
            data = path.read_bytes()
            end = len(data)
            if following is not None:
                opening = parse_line(following.read_bytes().partition(b"\n")[0]).fields
                end = opening["prev_file_bytes"]
            self._tails[path.name] = data[end:]
            for text in data[:end].splitlines():
                record = parse_line(text)
                self.lines.append(Line(path.name, record.fields, record.signature))

    def at(self, type_: str, nth: int = 0) -> int:
        """Where the nth record of a type stands; nth may count from the end."""
        return [number for number, line in enumerate(self.lines) if line.type == type_][nth]

    def first(self, type_: str, nth: int = 0) -> dict[str, Any]:
        """Its fields."""
        return self.lines[self.at(type_, nth)].fields

    def save(self) -> None:
        """As it is: nothing is counted, hashed or signed anew."""
        self._write(lambda line, _: Record(line.json_bytes(), line.signature, {}))

    def chain(self, sign: Callable[[Line, bytes], bytes | None]) -> None:
        """Numbers and hashes made to fit again. sign(line, json): the new signature, None for a pending one."""
        head: tuple[int, str] | None = None

        def chained(line: Line, before: int | None) -> Record:
            nonlocal head
            if head is not None:
                line.fields |= {"seq": head[0] + 1, "prev": head[1]}
            if before is not None and "prev_file_bytes" in line.fields:
                line.fields["prev_file_bytes"] = before
            data = line.json_bytes()
            head = (line.fields["seq"], sha256_hex(data))
            return Record(data, sign(line, data), {})

        self._write(chained)

    def rehash(self) -> None:
        """The chain fits again and the signatures stay what they were."""
        self.chain(lambda line, _: line.signature)

    def unsign(self) -> None:
        """The chain fits again; nothing from the first change on is signed."""
        before = {(line.file, json.dumps(line.fields)) for line in Log(self.folder.parent).lines}
        changed = False

        def sign(line: Line, _: bytes) -> bytes | None:
            nonlocal changed
            changed = changed or (line.file, json.dumps(line.fields)) not in before
            return None if changed else line.signature

        self.chain(sign)

    def resign(self, *signers: RecordSigner) -> None:
        """All of it signed anew: by this key, or each file by the one whose certificate it names."""
        keys = {signer.certificate_sha256: signer for signer in signers}
        named = {line.file: line.fields.get("certificate_sha256") for line in reversed(self.lines)}

        def sign(line: Line, data: bytes) -> bytes:
            return keys.get(str(named[line.file]), signers[0]).sign_record(data)

        self.chain(sign)

    def _write(self, record: Callable[[Line, int | None], Record]) -> None:
        written: dict[str, bytes] = {}
        for line in self.lines:
            earlier = [name for name in written if name != line.file]
            before = len(written[earlier[-1]]) if earlier and line.file not in written else None
            written[line.file] = written.get(line.file, b"") + record(line, before).line()
        for name, data in written.items():
            (self.folder / name).write_bytes(data + self._tails.get(name, b""))

    def vouch(self, name: str) -> None:
        """Have the records say the hashes and sizes that the fragments of a clear segment now have, and no more."""
        data = (self.folder.parent / name).read_bytes()
        checkpoints = [line.fields for line in self.lines if line.type == "checkpoint" and line.fields["file"] == name]
        end = 0
        for checkpoint, fragment in zip(checkpoints, fragments(self.folder.parent / name), strict=True):
            end += len(fragment.data)
            checkpoint |= {"bytes": end, "sha256": hashlib.sha256(data[:end]).hexdigest()}
        segment = next(line.fields for line in self.lines if line.type == "segment" and line.fields["file"] == name)
        close = self.first("recording-close", -1)
        close["bytes"] += len(data) - segment["bytes"]
        segment |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
