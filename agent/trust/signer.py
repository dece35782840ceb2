"""The device key, as what it can do: sign bytes, and show the certificate that says whose key it is."""

from __future__ import annotations

from typing import Protocol

from cryptography import x509


class Signer(Protocol):
    """A P-256 key (FIPS 186-5) with its X.509 certificate. One key signs journal records and in-stream signatures."""

    @property
    def certificate(self) -> x509.Certificate:
        """The device certificate whose key signs."""

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The device certificate first, then intermediates, without the root."""

    @property
    def description(self) -> str:
        """Where the key lives, as records tell it: "software (exportable)"."""

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-256 over `data`, as DER `ECDSA-Sig-Value` (RFC 3279 section 2.2.3).

        Raises SignerBusyError when there is no answer in time, DeviceKeyError when the key cannot be used any more.
        """
