"""Who keeps the device key, as the configuration says: the one place where a backend is chosen."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from agent.errors import DeviceKeyError
from agent.settings.schema import Settings
from agent.trust.certificates import public_key_der
from agent.trust.credentials import DEVICE_KEY, TOKEN_PIN, credential
from agent.trust.keystore import FileKeys, KeyStore, TokenKeys
from agent.trust.pkcs11 import Pkcs11Signer
from agent.trust.signer import Signer
from agent.trust.software import SoftwareSigner, load_key_for
from agent.trust.token import Token, TokenAddress


class KeyCustody:
    """Signers and key store of one configuration. A token is shared by all of them, and reached for only when used."""

    def __init__(self, settings: Settings) -> None:
        self._key_path = credential(DEVICE_KEY, settings.vault.key_path)
        self._token: Token | None = None
        if settings.key.backend == "pkcs11":
            key = settings.key
            pin_path = credential(TOKEN_PIN, Path(key.pin_path))
            self._token = Token(TokenAddress(Path(key.module_path), key.token, key.label, pin_path))

    @property
    def keys(self) -> KeyStore:
        """Where enrolment looks."""
        return FileKeys(self._key_path) if self._token is None else TokenKeys(self._token)

    def signer(self, chain: tuple[x509.Certificate, ...]) -> Signer:
        """The signer for a chain. Raises DeviceKeyError when its key is not there; of a token that shows when it signs.

        With a token, a certificate whose key lies in the file of old is signed for from there: that is how the key
        before introduces the one on the token.
        """
        if self._token is None or self._is_in_file(chain):
            return SoftwareSigner(load_key_for(self._key_path, chain), chain)
        return Pkcs11Signer(self._token, chain)

    def settle(self, certificate: x509.Certificate) -> None:
        """The device's certificate is this one now. Raises DeviceKeyError, StorageError."""
        if self._token is None:
            FileKeys(self._key_path).settle(public_key_der(certificate.public_key()))

    def _is_in_file(self, chain: tuple[x509.Certificate, ...]) -> bool:
        try:
            load_key_for(self._key_path, chain)
        except DeviceKeyError:
            return False
        return True
