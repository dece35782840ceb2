"""A PKCS#11 token: a secure element or TPM that signs with keys which it does not give away.

The session is opened when it is first needed and again after the token was away; nothing is asked of the token before,
so that making these objects never waits. Calls may hang in the module's driver for as long as it likes: they belong on
TimedSigner's thread. See agent.trust.token_library for what keeps other threads from waiting for it.

Only CKM_ECDSA over a digest made here is asked for: what hashes on the token differs from one to the next.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from agent.errors import DeviceKeyError, SignerBusyError
from agent.trust.pin import read_pin
from agent.trust.token_library import Library, import_pkcs11, libraries, load_library

COORDINATE_BYTES = 32
REINITIALISE_S = 5.0
"""The module is initialised anew at most this often: that takes long, and ends every session."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TokenAddress:
    """Which token, and which keys on it. `label` is of the keys (CKA_LABEL), `token` of the token."""

    module_path: Path
    token: str
    label: str
    pin_path: Path

    @property
    def name(self) -> str:
        """For records: "pkcs11:<module name>/<token>"."""
        return f"pkcs11:{self.module_path.name.partition('.so')[0]}/{self.token}"


class Token:
    """One token. Shared by all who sign with its keys; calls wait for one another."""

    def __init__(self, address: TokenAddress, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """`monotonic_s` is a clock in seconds that never goes back. Nothing is opened yet."""
        self.address = address
        self._monotonic_s = monotonic_s
        self._session: Any = None
        self._generation = -1
        self._keys: list[_Key] = []
        self._refused: str | None = None
        self._began_s: float | None = None

    def sign_digest(self, public_key: ec.EllipticCurvePublicKey, digest: bytes) -> bytes:
        """ECDSA over a SHA-256 digest with the key that `public_key` belongs to, DER (RFC 3279 section 2.2.3).

        Raises SignerBusyError when the token cannot be reached now, DeviceKeyError when a person has to look.
        """
        raw = self._do(lambda module: self._key(public_key).private.sign(digest, mechanism=module.Mechanism.ECDSA))
        # PKCS#11 v3.0 section 2.3.1: r and s, each as long as the group's order.
        if len(raw) != 2 * COORDINATE_BYTES:
            raise DeviceKeyError(f"The token {self._name} answered {len(raw)} bytes, which is no P-256 signature.")
        r, s = (int.from_bytes(half, "big") for half in (raw[:COORDINATE_BYTES], raw[COORDINATE_BYTES:]))
        return encode_dss_signature(r, s)

    def public_keys(self) -> list[ec.EllipticCurvePublicKey]:
        """The P-256 keys under the label, as far as their public halves are on the token. Raises as `sign_digest`."""
        return self._do(lambda _: [key.public for key in self._keys if key.public is not None])

    def custody(self, public_key: ec.EllipticCurvePublicKey) -> str:
        """How well that key is kept, for records: "not exportable". Raises as `sign_digest`."""

        def ask(module: ModuleType) -> str:
            attribute, key = module.Attribute, self._key(public_key).private
            if not _flag(module, key, attribute.SENSITIVE) or _flag(module, key, attribute.EXTRACTABLE, absent=True):
                return "exportable"
            if not _flag(module, key, attribute.NEVER_EXTRACTABLE):
                return "not exportable, but may have been copied before"
            return "not exportable"

        return self._do(ask)

    def generate(self) -> ec.EllipticCurvePublicKey:
        """Make a key that cannot leave the token, under the label. Raises as `sign_digest`."""

        def make(module: ModuleType) -> ec.EllipticCurvePublicKey:
            attribute = module.Attribute
            session = self._opened(module, rw=True)
            curve = session.create_domain_parameters(
                module.KeyType.EC,
                {attribute.EC_PARAMS: module.util.ec.encode_named_curve_parameters("secp256r1")},
                local=True,
            )
            public, private = curve.generate_keypair(
                id=secrets.token_bytes(8),
                label=self.address.label,
                store=True,
                capabilities=module.MechanismFlag.SIGN | module.MechanismFlag.VERIFY,
                private_template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
            )
            made = _public_key(bytes(public[attribute.EC_POINT]))
            if made is None:
                raise DeviceKeyError(f"The token {self._name} made a key that is not on P-256.")
            self._keys.append(_Key(made, private))
            return made

        # Not tried again: a second try could leave a second key.
        return self._do(make, again=False)

    def close(self) -> None:
        """End the session; the next call opens another."""
        library = libraries.get(self.address.module_path)
        if library is not None:
            with library.lock:
                self._drop(library)

    @property
    def _name(self) -> str:
        return f'"{self.address.token}"'

    def _do(self, work: Callable[[ModuleType], _T], *, again: bool = True) -> _T:
        """Run `work` with an open session: the one there is, else a new one, else one after a new beginning."""
        module = import_pkcs11()
        library = load_library(self.address.module_path, module, self._monotonic_s)
        with library.lock:
            if self._refused is not None:
                raise DeviceKeyError(self._refused)
            failure: Exception | None = None
            for step in ("go on", "open", "begin anew"):
                if step == "go on" and not self._is_open(library):
                    continue
                if step == "begin anew" and not self._begin_anew(library):
                    break
                try:
                    if not self._is_open(library):
                        self._open(library, module)
                except module.PKCS11Error as error:
                    failure = error
                    self._drop(library)
                    continue
                try:
                    return work(module)
                except module.PKCS11Error as error:
                    failure = error
                    self._drop(library)
                    if not again:
                        break
                except DeviceKeyError:
                    self._drop(library)  # the keys are looked up anew next time: another token may be there by then
                    raise
        reason = "" if failure is None else f" ({type(failure).__name__}{f': {failure}' if str(failure) else ''})"
        raise SignerBusyError(f"The token {self._name} cannot be used now{reason}; check that it is there.")

    def _begin_anew(self, library: Library) -> bool:
        now_s = self._monotonic_s()
        if self._began_s is not None and now_s - self._began_s < REINITIALISE_S:
            return False
        self._began_s = now_s
        library.reinitialise()
        return True

    def _is_open(self, library: Library) -> bool:
        return self._session is not None and self._generation == library.generation

    def _drop(self, library: Library) -> None:
        session, self._session, self._keys = self._session, None, []
        if session is not None and self._generation == library.generation:
            with suppress(library.module.PKCS11Error):  # the token is gone, and its sessions with it
                session.close()

    def _open(self, library: Library, module: ModuleType) -> None:
        token = self._find(library, module)
        flags = module.TokenFlag
        if token.flags & flags.USER_PIN_LOCKED:
            self._refuse("its PIN is locked; unlock it with the token's own tool.")
        if token.flags & flags.USER_PIN_FINAL_TRY:
            # A restarting service would use up the last one.
            self._refuse("there is one try left for its PIN, which is left to a person; log in with the token's tool.")
        pin = read_pin(self.address.pin_path)
        try:
            session = token.open(user_pin=pin)
        except module.UserAlreadyLoggedIn:
            session = token.open()
        except (module.PinIncorrect, module.PinInvalid, module.PinLenRange, module.PinExpired, module.PinLocked) as no:
            self._refuse(
                f"it refused the PIN in {self.address.pin_path} ({type(no).__name__}). It is not tried again before a "
                "restart, because tokens lock themselves after a few tries; put the right one there."
            )
        self._session, self._generation = session, library.generation
        self._keys = self._find_keys(module)

    def _opened(self, module: ModuleType, *, rw: bool) -> Any:
        """A second session for writing, which shares the first one's login."""
        library = libraries[self.address.module_path]
        return self._find(library, module).open(rw=rw)

    def _refuse(self, why: str) -> None:
        self._refused = f"The token {self._name} is not used: {why}"
        raise DeviceKeyError(self._refused)

    def _find(self, library: Library, module: ModuleType) -> Any:
        found = []
        for slot in library.lib.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except module.PKCS11Error:
                continue  # another reader's trouble, or ours: then it is not found
            if token.label == self.address.token:
                found.append(token)
        if len(found) > 1:
            raise DeviceKeyError(f"There are {len(found)} tokens labelled {self._name}; take out all but the camera's.")
        if not found:
            raise module.NoSuchToken(f"no token labelled {self._name} is there")
        return found[0]

    def _find_keys(self, module: ModuleType) -> list[_Key]:
        attribute = module.Attribute
        of_label = {attribute.LABEL: self.address.label, attribute.KEY_TYPE: module.KeyType.EC}

        def objects(kind: Any) -> list[Any]:
            return list(self._session.get_objects({attribute.CLASS: kind, **of_label}))

        public_by_id = {}
        for public in objects(module.ObjectClass.PUBLIC_KEY):
            public_by_id[bytes(public[attribute.ID])] = _public_key(bytes(public[attribute.EC_POINT]))
        privates = objects(module.ObjectClass.PRIVATE_KEY)
        return [_Key(public_by_id.get(bytes(private[attribute.ID])), private) for private in privates]

    def _key(self, public_key: ec.EllipticCurvePublicKey) -> _Key:
        point = _point(public_key)
        for key in self._keys:
            if key.public is not None and _point(key.public) == point:
                return key
        # Some tokens keep no public halves. A single key is then taken at its word: who signs compares.
        unknown = [key for key in self._keys if key.public is None]
        if len(unknown) == len(self._keys) == 1:
            return unknown[0]
        raise DeviceKeyError(
            f'No key labelled "{self.address.label}" on the token {self._name} belongs to the device certificate; '
            "set key.label, put the camera's own token back, or enrol it with `bodycam enroll --csr FILE`."
        )


@dataclass(frozen=True, slots=True)
class _Key:
    """A private key's handle and, when the token has it, its public half."""

    public: ec.EllipticCurvePublicKey | None
    private: Any


def _flag(module: ModuleType, key: Any, attribute: Any, *, absent: bool = False) -> bool:
    try:
        return bool(key[attribute])
    except (module.AttributeTypeInvalid, module.AttributeSensitive):
        return absent


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _public_key(point: bytes) -> ec.EllipticCurvePublicKey | None:
    """From CKA_EC_POINT: a DER OCTET STRING around an X9.62 point (PKCS#11 v2.40); older modules leave it bare."""
    if point[:2] == bytes((0x04, len(point) - 2)):
        point = point[2:]
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        return None  # another curve
