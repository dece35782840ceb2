"""Key and certificate: can this device sign, and will an examiner be able to follow it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.clock import NS_PER_S, Clock
from agent.doctor.check import Check, fail, failed_with, ok, warn
from agent.doctor.wall_clock import EARLIEST_PLAUSIBLE
from agent.errors import DeviceKeyError, SignerBusyError
from agent.settings.schema import Settings
from agent.vault.layout import VaultLayout

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from agent.trust.keystore import KeyStore

EXPIRES_SOON_DAYS = 60
# Opening a TPM for the first time takes seconds.
PROBE_TIMEOUT_S = 10.0
_INSTALL = "Run `bodycam enroll --install CHAIN.pem --root ROOT.pem` with what the CA issued for this camera's key."
_WAITING_UNFIT = (
    "Install another in its place with `bodycam enroll --install CHAIN.pem`; until then the camera signs as before."
)


@dataclass(frozen=True, slots=True)
class IdentityFacts:
    """A signer that loaded: so the key is there, closed to others, and the certificate's.

    problems: what is wrong with the chain at this moment. advice: what to do about them. has_root: whether there was a
    root to follow it to. waiting: which other certificate is to take over, in words; waiting_problems: why it cannot.
    """

    common_name: str
    signer: str
    not_after: datetime
    fingerprint: str
    has_root: bool
    problems: tuple[str, ...]
    advice: str = _INSTALL
    waiting: str | None = None
    waiting_problems: tuple[str, ...] = ()


def probe_identity(settings: Settings, at: datetime) -> IdentityFacts:
    """Load, sign once, follow the chain to the vault's root if there is one, else to its own end.

    Raises DeviceKeyError, and SignerBusyError when a token does not answer.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    from agent.trust.certificates import (
        EXTENSIONS_ADVICE,
        check_chain,
        extension_problems,
        fingerprint_text,
        load_chain,
    )
    from agent.trust.custody import KeyCustody
    from agent.trust.timed import TimedSigner

    layout = VaultLayout(settings.vault.path)
    chain_path, root_path = layout.chain, layout.root_certificate
    custody = KeyCustody(settings)
    signer = TimedSigner(custody.signer(load_chain(chain_path)), PROBE_TIMEOUT_S)
    message = b"bodycam doctor"
    public_key = signer.certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise DeviceKeyError(f"The certificate in {chain_path} is not for an ECDSA key; install the right one.")
    public_key.verify(signer.sign(message), message, ec.ECDSA(hashes.SHA256()))
    has_root = root_path.exists()
    roots = load_chain(root_path) if has_root else signer.chain[-1:]
    names = signer.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    unfit = extension_problems(signer.certificate)
    waiting, waiting_problems = _probe_waiting(layout.next_chain, custody.keys, roots if has_root else None, at)
    return IdentityFacts(
        common_name=str(names[0].value) if names else "",
        signer=signer.description,
        not_after=signer.certificate.not_valid_after_utc,
        fingerprint=fingerprint_text(signer.certificate),
        has_root=has_root,
        problems=tuple(check_chain(signer.chain, roots, at)),
        advice=f"{EXTENSIONS_ADVICE}\nThen: {_INSTALL}" if unfit else _INSTALL,
        waiting=waiting,
        waiting_problems=waiting_problems,
    )


def _probe_waiting(
    path: Path, keys: KeyStore, roots: Sequence[Certificate] | None, at: datetime
) -> tuple[str | None, tuple[str, ...]]:
    """What IdentityFacts says of the chain that is to take over at the next start of `bodycam run`."""
    from agent.trust.certificates import check_chain, fingerprint_text, load_chain, public_key_der

    if not path.exists():
        return None, ()
    try:
        chain = load_chain(path)
    except DeviceKeyError as error:
        return f"one in {path}", (str(error),)
    problems = check_chain(chain, roots if roots is not None else chain[-1:], at)
    try:
        if keys.find(public_key_der(chain[0].public_key())) is None:
            problems.append(f"Its key is not there ({keys.place}).")
    except DeviceKeyError as error:
        problems.append(str(error))
    return f"SHA-256 {fingerprint_text(chain[0])[:23]}…, in {path}", tuple(problems)


def judge_identity(facts: IdentityFacts, settings: Settings, at: datetime) -> Check:
    """Against the device's id and the present time; an unset clock is not held against a certificate."""
    said = f'Key ({facts.signer}) and certificate "{facts.common_name}" fit'
    if facts.problems:
        found = f"{said}, but: {' '.join(facts.problems)}"
        if at < EARLIEST_PLAUSIBLE:
            return warn("key", found, "Set the clock first: validity was checked against a time that cannot be.")
        return fail("key", found, facts.advice)
    if facts.common_name != settings.device.id:
        return fail(
            "key",
            f'{said}, but device.id is "{settings.device.id}".',
            "Set device.id to the certificate's name, or enrol this camera under its own.",
        )
    said = f"{said}, valid until {facts.not_after:%Y-%m-%d}, SHA-256 {facts.fingerprint[:23]}…"
    if facts.waiting is not None:
        said = f"{said}; another certificate waits ({facts.waiting})"
        if facts.waiting_problems and at >= EARLIEST_PLAUSIBLE:
            return warn("key", f"{said}, but: {' '.join(facts.waiting_problems)}", _WAITING_UNFIT)
        said = f"{said}: `bodycam run` has the present key introduce it at its next start, and signs with it then"
    if not facts.has_root:
        return warn("key", f"{said}; there is no root certificate to follow the chain to.", _INSTALL)
    if (facts.not_after - at).days < EXPIRES_SOON_DAYS and facts.waiting is None:
        return warn("key", f"{said}.", "Have the CA issue a new certificate for this key before then.")
    return ok("key", f"{said}.")


IdentityProbe = Callable[[Settings, datetime], IdentityFacts]


def check_identity(settings: Settings, clock: Clock, probe: IdentityProbe = probe_identity) -> Check:
    """The key's check."""
    at = datetime.fromtimestamp(clock.utc_ns() / NS_PER_S, UTC)
    try:
        facts = probe(settings, at)
    except SignerBusyError as error:
        return failed_with("key", error, "Look at the token, its module and its wiring; records stay unsigned so long.")
    except DeviceKeyError as error:
        return failed_with("key", error, "Run `bodycam enroll --bench` to try things out, or `--csr FILE` for your CA.")
    return judge_identity(facts, settings, at)
