"""What the camera tests of itself at each start, before it records: the hash, and that its own log can be verified.

The records of this start are read back and checked as a stranger would: that takes the key, the certificate,
the encoding and the storage together. The outcome is journalled whatever it is; a failure stops no recording, because
evidence with a doubt on it is better than none, and `bodycam verify` and the support sheet show it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cryptography import x509

from agent.errors import CmsError, DeviceKeyError
from agent.trust.certificates import fingerprint_hex, parse_chain
from agent.trust.cms import verify_detached
from agent.vault.filesystem import Filesystem
from agent.vault.journal import chained_prefix
from agent.vault.journal_end import JOURNAL_NAME_PATTERN
from agent.vault.layout import VaultLayout

# FIPS 180-4's own example.
_KNOWN_TEXT = b"abc"
_KNOWN_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
_CHAIN_SUFFIX = ".pem"


def self_test(filesystem: Filesystem, layout: VaultLayout) -> dict[str, Any]:
    """The fields of a `self-test` record. Call it when the records of this start are committed. Raises StorageError."""
    tests = [_sha256(), _read_back(filesystem, layout)]
    return {"passed": all(test["passed"] for test in tests), "tests": tests}


def _outcome(name: str, passed: bool, found: str) -> dict[str, Any]:
    return {"name": name, "passed": passed, "found": found}


def _sha256() -> dict[str, Any]:
    found = hashlib.sha256(_KNOWN_TEXT).hexdigest()
    return _outcome("sha256-known-answer", found == _KNOWN_SHA256, f"The SHA-256 of 'abc' came out as {found}.")


def _read_back(filesystem: Filesystem, layout: VaultLayout) -> dict[str, Any]:
    name = "journal-read-back"
    newest = max(file for file in filesystem.list_dir(layout.journal) if JOURNAL_NAME_PATTERN.fullmatch(file))
    data = filesystem.read(layout.journal / newest)
    records, chained = chained_prefix(data)
    if chained != len(data) or not records:
        return _outcome(name, False, f"{newest} holds {len(data)} bytes, of which {chained} are a chain of records.")
    certificate = _certificate(filesystem, layout, str(records[0].fields.get("certificate_sha256")))
    if certificate is None:
        return _outcome(name, False, f"The certificate that {newest} names is not in {layout.device.name}/.")
    signed = [record for record in records if record.signature is not None]
    try:
        for record in signed:
            verify_detached(record.signature or b"", record.json_bytes, (certificate,))
    except CmsError as error:
        return _outcome(name, False, f"A record that was just written does not verify: {error}")
    return _outcome(
        name,
        bool(signed),
        f"{len(records)} records were read back from {newest}; {len(signed)} signatures verify, "
        f"{len(records) - len(signed)} are pending.",
    )


def _certificate(filesystem: Filesystem, layout: VaultLayout, sha256: str) -> x509.Certificate | None:
    """By its hash, from whichever chain in device/ has it."""
    for file in filesystem.list_dir(layout.device):
        if file.endswith(_CHAIN_SUFFIX):
            for certificate in _certificates(filesystem, layout.device / file):
                if fingerprint_hex(certificate) == sha256:
                    return certificate
    return None


def _certificates(filesystem: Filesystem, path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return parse_chain(filesystem.read(path), path.name)
    except DeviceKeyError:
        return ()
