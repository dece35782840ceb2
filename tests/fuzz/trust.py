"""Readers of what others signed: certificates, CMS, timestamps; and of what was encrypted."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime

from cryptography.utils import CryptographyDeprecationWarning

from agent.clock import NS_PER_S
from agent.encryption.identity import Identities
from agent.encryption.recipients import Recipients, why_unfit
from agent.errors import CmsError, DeviceKeyError, EncryptionError, TimestampError
from agent.trust.certificates import check_chain, fingerprint_text, parse_chain
from agent.trust.cms import verify_detached
from agent.trust.der import with_sorted_certificates
from agent.trust.timestamps import doubt, read_response
from agent.vault.record import parse_line
from agent.verify.interval import utc_json, utc_ns
from tests.fuzz.artefacts import MOMENT_NS, Artefacts
from tests.fuzz.media import named
from tests.fuzz.target import DefectError, Target

_MOMENT = datetime.fromtimestamp(MOMENT_NS // NS_PER_S, UTC)
_SIGNED = b"{}"


def _response(artefacts: Artefacts, data: bytes) -> None:
    timestamp = read_response(data)
    for roots in (artefacts.tsa_roots, artefacts.roots, (*artefacts.roots, *artefacts.tsa_roots)):
        doubt(timestamp, roots)
    # What `verify` makes of every token that was read.
    for moment in (timestamp.earliest, timestamp.gen_time, timestamp.latest):
        utc_json(utc_ns(moment))


def _sorted(_: Artefacts, data: bytes) -> None:
    if sorted(with_sorted_certificates(data)) != sorted(data):
        raise DefectError("Sorting certificates made other bytes of them.")


def _cms(artefacts: Artefacts, data: bytes) -> None:
    verify_detached(data, _SIGNED, artefacts.chain)
    raise DefectError("A signature that nobody made was taken for good.")


def _signatures(artefacts: Artefacts) -> list[bytes]:
    records = [parse_line(line) for line in artefacts.journals[0].splitlines()]
    return [record.signature for record in records if record.signature is not None][:10]


def _certificates(artefacts: Artefacts, data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # whoever must not take these says so
        chain = parse_chain(data, "chain.pem")
        for certificate in chain:
            fingerprint_text(certificate)
        check_chain(chain, artefacts.roots, _MOMENT)
        check_chain((*artefacts.chain, *chain), chain, _MOMENT)


def _identity(artefacts: Artefacts, data: bytes) -> None:
    path = artefacts.work / "identity.txt"
    path.write_bytes(data)
    Identities.load(path)


def _recipient(_: Artefacts, data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    fit = why_unfit(text) is None
    try:
        Recipients([text])
    except EncryptionError:
        if fit:
            raise DefectError(f"{text!r} is fit to encrypt to, and is refused.") from None


def _age(artefacts: Artefacts, data: bytes) -> None:
    plain = bytearray()
    artefacts.identities.decrypt((data[at : at + 1000] for at in range(0, len(data), 1000)), plain.extend)


def _sealed(artefacts: Artefacts, data: bytes) -> None:
    artefacts.identities.open_sealed(data.decode("utf-8", "surrogateescape"))


TARGETS = (
    Target("timestamp", _response, named("token.tsr", "token-cades.tsr", "rejected.tsr"), (TimestampError,), tries=300),
    Target("timestamp-der", _sorted, named("token.tsr", "token-cades.tsr"), tries=600),
    Target("cms", _cms, _signatures, (CmsError,), tries=600),
    Target("certificates", _certificates, named("vault/device/chain.pem", "root.pem"), (DeviceKeyError,), tries=300),
    Target("age-identity", _identity, named("identity.txt"), (EncryptionError,), tries=400),
    Target("age-recipient", _recipient, named("recipient.txt"), tries=300),
    Target("age-file", _age, named("segment.age"), (EncryptionError,), max_bytes=1 << 18, tries=40),
    Target("age-sealed", _sealed, named("sealed.txt"), (EncryptionError,), tries=150),
)
