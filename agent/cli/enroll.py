"""`bodycam enroll`: give this camera its key and certificate, and journal whom it encrypts to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509.oid import NameOID

from agent.cli.output import say
from agent.errors import ConfigError
from agent.settings.load import LoadedSettings
from agent.settings.schema import Settings
from agent.trust.certificates import fingerprint_text, load_chain, public_key_der
from agent.trust.custody import KeyCustody
from agent.trust.identity import (
    Change,
    Enrolment,
    IdentityPaths,
    enroll_bench,
    install_chain,
    request_certificate,
)
from agent.trust.keystore import KeyStore
from agent.vault.layout import VaultLayout

HARDWARE_SERIAL_PATH = Path("/proc/device-tree/serial-number")
# RFC 4514 has no short name for it, and nobody reads 2.5.4.5.
_NAMES = {NameOID.SERIAL_NUMBER: "serialNumber"}


def read_hardware_serial(path: Path = HARDWARE_SERIAL_PATH) -> str | None:
    """The board's serial number as the firmware gives it (device tree), or None on hardware without one."""
    try:
        text = path.read_bytes().decode("ascii", errors="ignore")
    except OSError:
        return None
    # Only what an X.520 PrintableString may hold; the device tree ends strings with NUL.
    serial = "".join(character for character in text if character.isalnum() or character == "-")
    return serial[:64] or None


def enroll(
    settings: Settings,
    *,
    csr: Path | None,
    install: Path | None,
    root: Path | None,
    bench: bool,
    renew: bool = False,
    rotate: bool = False,
) -> int:
    """Make or install the device identity and say what was made; returns 0.

    `bench`: key and certificate under a CA made on the spot. `csr`: key and request file for the department's CA.
    `install`: the chain that CA issued (PEM), with its `root` if wanted. `renew`, `rotate`: with one of the first two,
    another certificate for an enrolled camera, for the same key or for a new one. Raises ConfigError for any other
    combination, DeviceKeyError, SignerBusyError and StorageError from agent.trust.identity.
    """
    changes = [change for change, asked in ((Change.RENEW, renew), (Change.ROTATE, rotate)) if asked]
    if (
        sum((bench, csr is not None, install is not None)) != 1
        or (root is not None and install is None)
        or len(changes) > (install is None)
    ):
        raise ConfigError(
            "Say one of: `bodycam enroll --bench` to try things out, `bodycam enroll --csr FILE` for a request to the "
            "department's CA, `bodycam enroll --install CHAIN.pem [--root ROOT.pem]` for its answer. Add --renew "
            "(same key) or --rotate (new key) to one of the first two for a camera that is enrolled already."
        )
    change = changes[0] if changes else None
    layout = VaultLayout(settings.vault.path)
    paths = IdentityPaths(settings.vault.key_path, layout.chain, layout.root_certificate)
    custody = KeyCustody(settings)
    if change is not None and layout.chain.exists():
        custody.settle(load_chain(layout.chain)[0])
    has_records = any(layout.journal.glob("*.journal"))
    now = datetime.now(UTC)
    device_id = settings.device.id
    keys = custody.keys
    if csr is not None:
        made = request_certificate(
            paths, device_id, read_hardware_serial(), csr, has_records=has_records, keys=keys, change=change
        )
        _say_key(made)
        say(f"Request for the department's CA: {csr}")
        say("Send it to the CA; then run `bodycam enroll --install CHAIN.pem --root ROOT.pem` with its answer.")
        if change is not None:
            say("Until then nothing changes: the camera signs with the key and certificate it has.")
        return 0
    if install is not None:
        made = install_chain(paths, install, root, now, has_records=has_records, keys=keys)
    else:
        made = enroll_bench(
            paths, device_id, read_hardware_serial(), now, has_records=has_records, keys=keys, change=change
        )
        _say_key(made)
        say(f"Bench CA (for trying out only, proves nothing): {paths.bench_root_key}")
    _say_certificate(paths, made, keys)
    return 0


def enroll_recipients(loaded: LoadedSettings, *, wanted: bool, alone: bool = True) -> int:
    """Journal that the camera encrypts to the configuration's recipients from now on; returns 0.

    wanted: whether there should be any. It is asked so that neither can happen by a slip in the configuration.
    alone: no key or certificate was asked for in the same breath. Raises ConfigError when the configuration says
    otherwise, and what `re_enroll` raises.
    """
    from agent.clock import SystemClock
    from agent.daemon.re_enrolment import re_enroll
    from agent.vault.filesystem import PosixFilesystem

    recipients = loaded.settings.encryption.recipients
    if not alone:
        raise ConfigError("Say `bodycam enroll --recipients` or --no-recipients by itself, after the rest is done.")
    if wanted and not recipients:
        raise ConfigError("The configuration's encryption.recipients are empty; write the keys there first.")
    if not wanted and recipients:
        raise ConfigError("The configuration still has encryption.recipients; take them out there first.")
    done = re_enroll(loaded, PosixFilesystem(), SystemClock())
    say(f"Before: {', '.join(done.previous) or 'not encrypted'}")
    if done.recipients:
        say(f"From now on recordings are encrypted to {', '.join(done.recipients)}.")
    else:
        say("From now on recordings are NOT encrypted: whoever has the card can play them.")
    say(f"Journalled as record {done.seq}, SHA-256 {done.sha256}.")
    if done.card_forgot is not None:
        say(done.card_forgot)
    return 0


def _say_key(made: Enrolment) -> None:
    say(f"Device key, {'new' if made.key_is_new else 'already there, kept'}: {made.key_place}")


def _say_certificate(paths: IdentityPaths, made: Enrolment, keys: KeyStore) -> None:
    say(f"Certificate chain: {paths.next_chain if made.waits else paths.chain}")
    if made.waits:
        _say_when(paths, made, keys)
    if paths.root.exists():
        root = load_chain(paths.root)[-1]
        say(f"Root certificate: {paths.root}\n  SHA-256 fingerprint {fingerprint_text(root)}")
    else:
        say("Root certificate: none was given, so the chain was checked only up to its last certificate.")
    if made.certificate is not None:
        certificate = made.certificate
        say(
            f"Device certificate: {certificate.subject.rfc4514_string(_NAMES)}, "
            f"valid {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}\n"
            f"  SHA-256 fingerprint {fingerprint_text(certificate)}"
        )
    say("Write the fingerprints down apart from the camera: whoever examines its evidence compares them.")


def _say_when(paths: IdentityPaths, made: Enrolment, keys: KeyStore) -> None:
    """Two certificates are there, and perhaps two keys: which is which, and when the one follows the other."""
    before = load_chain(paths.chain)[0]
    say(
        "It waits: the camera signs with the certificate before until the next start of `bodycam run`, which has that "
        "one's key introduce the new one in the journal, and then signs with the new one."
    )
    if made.certificate is not None and made.certificate.public_key() == before.public_key():
        say(f"Both are for the same key: {made.key_place}")
        return
    here = keys.place_of(public_key_der(before.public_key()))
    say(f"Key of the certificate before: {here}\nKey of the new one: {made.key_place}")
    say("Keep both until `bodycam doctor` shows the new certificate and says nothing of one that waits.")
