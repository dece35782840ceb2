"""A device key on a PKCS#11 token. Whether it can be copied is asked of the token and told in records."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import DeviceKeyError, SignerBusyError
from agent.trust.token import Token


class Pkcs11Signer:
    """Signs with the key on a token that the chain's first certificate is for. See agent.trust.signer.

    Reaches for the token only when asked to sign, and again after it was away. Meant to stand behind a TimedSigner.
    """

    def __init__(self, token: Token, chain: tuple[x509.Certificate, ...]) -> None:
        """`chain` is the device certificate, then intermediates. Raises DeviceKeyError when it is not for P-256."""
        public_key = chain[0].public_key() if chain else None
        if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
            raise DeviceKeyError("The device certificate is not for a P-256 key; install the right one.")
        self._token = token
        self._chain = chain
        self._public_key = public_key
        self._algorithm = ec.ECDSA(hashes.SHA256())
        self._custody: str | None = None

    @property
    def certificate(self) -> x509.Certificate:
        return self._chain[0]

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return self._chain

    @property
    def description(self) -> str:
        """Never asks the token, which could take its time: what it said when it was last reached."""
        return f"{self._token.address.name} ({self._custody or 'not reached yet'})"

    def sign(self, data: bytes) -> bytes:
        """See Signer.sign. SignerBusyError: the token cannot be reached now. DeviceKeyError: a person has to look."""
        try:
            signature = self._token.sign_digest(self._public_key, hashlib.sha256(data).digest())
            custody = self._custody or self._token.custody(self._public_key)
        except (SignerBusyError, DeviceKeyError):
            self._custody = None  # what comes back may be another token
            raise
        try:
            # A token that answers nonsense, or with another key, must not put it under evidence.
            self._public_key.verify(signature, data, self._algorithm)
        except InvalidSignature as error:
            self._custody = None
            self._token.close()
            raise DeviceKeyError(
                f"What the token {self._token.address.name} signed does not fit the device certificate; "
                "put the camera's own token back, or look at whether it works."
            ) from error
        self._custody = custody
        return signature
