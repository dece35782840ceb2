"""Where enrolment finds and makes device keys: files beside each other, or a token."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, Hash

from agent.errors import DeviceKeyError
from agent.trust import durable
from agent.trust.certificates import public_key_der
from agent.trust.software import key_paths, load_private_key
from agent.trust.token import Token


class KeyStore(Protocol):
    """Holds the device key, and during a change of keys the next one as well.

    Raises DeviceKeyError, StorageError, and with a token SignerBusyError.
    """

    @property
    def place(self) -> str:
        """Where the keys are and whether they can be copied, for people."""

    def place_of(self, public_key: bytes) -> str:
        """The same for the one key whose public half in DER this is: during a change of keys there are two."""

    def find(self, public_key: bytes) -> ec.EllipticCurvePrivateKey | None:
        """The key whose public half in DER (SubjectPublicKeyInfo) this is, or None."""

    def unused(self, used: Collection[bytes]) -> tuple[ec.EllipticCurvePrivateKey, bool]:
        """A key that is none of `used` (as in `find`), and whether it was made now.

        One that is there already was made for a request that was lost, or whose answer is still to come.
        """


class FileKeys:
    """Keys in PEM files: the device key, and the next one under its name with ".next"."""

    def __init__(self, path: Path, note: bytes = b"") -> None:
        """`note` stands before a key that is made: RFC 7468 section 2 allows text before the first boundary."""
        self._path = path
        self._note = note

    @property
    def place(self) -> str:
        return _in_file(self._path)

    def place_of(self, public_key: bytes) -> str:
        found = self._found(public_key)
        return self.place if found is None else _in_file(found[0])

    def find(self, public_key: bytes) -> ec.EllipticCurvePrivateKey | None:
        found = self._found(public_key)
        return None if found is None else found[1]

    def unused(self, used: Collection[bytes]) -> tuple[ec.EllipticCurvePrivateKey, bool]:
        for path in self._present():
            key = load_private_key(path)
            if public_key_der(key.public_key()) not in used:
                return key, False
        free = [path for path in key_paths(self._path) if not path.exists()]
        if not free:
            raise DeviceKeyError(
                f"There are two keys already, {self._path} and the one that followed it; start `bodycam run` once, "
                "which leaves only the present one."
            )
        durable.make_folder(self._path.parent, 0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        durable.create(free[0], self._note + encoded, 0o600)
        return key, True

    def settle(self, public_key: bytes) -> None:
        """The device's certificate is for this key now: give it the device key's name, over the one before it."""
        device, following = key_paths(self._path)
        if following.exists() and public_key_der(load_private_key(following).public_key()) == public_key:
            durable.move(following, device)

    def _found(self, public_key: bytes) -> tuple[Path, ec.EllipticCurvePrivateKey] | None:
        for path in self._present():
            key = load_private_key(path)
            if public_key_der(key.public_key()) == public_key:
                return path, key
        return None

    def _present(self) -> list[Path]:
        return [path for path in key_paths(self._path) if path.exists()]


def _in_file(path: Path) -> str:
    return f"{path} (software, can be copied)"


class TokenKeys:
    """Keys on a token, all under one label."""

    def __init__(self, token: Token) -> None:
        self._token = token

    @property
    def place(self) -> str:
        return f'on the token "{self._token.address.token}" under the label "{self._token.address.label}"'

    def place_of(self, public_key: bytes) -> str:
        del public_key  # all are under one label
        return self.place

    def find(self, public_key: bytes) -> ec.EllipticCurvePrivateKey | None:
        for key in self._token.public_keys():
            if public_key_der(key) == public_key:
                return TokenKey(self._token, key)
        return None

    def unused(self, used: Collection[bytes]) -> tuple[ec.EllipticCurvePrivateKey, bool]:
        for key in self._token.public_keys():
            if public_key_der(key) not in used:
                return TokenKey(self._token, key), False
        return TokenKey(self._token, self._token.generate()), True


class TokenKey(ec.EllipticCurvePrivateKey):
    """A key on a token in the shape in which `cryptography` asks for signatures: for requests (PKCS#10)."""

    def __init__(self, token: Token, public_key: ec.EllipticCurvePublicKey) -> None:
        self._token = token
        self._public_key = public_key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA with SHA-256 over `data`, DER. Raises SignerBusyError, DeviceKeyError, ValueError for another hash."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed) or not isinstance(algorithm, SHA256):
            raise ValueError("A device key signs with SHA-256.")
        digest = Hash(SHA256())
        digest.update(data)
        return self._token.sign_digest(self._public_key, digest.finalize())

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        raise NotImplementedError("A device key only signs.")

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        raise NotImplementedError("The key does not leave its token.")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> bytes:
        raise NotImplementedError("The key does not leave its token.")

    def __copy__(self) -> TokenKey:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> TokenKey:
        return self
