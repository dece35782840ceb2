"""A real key whose owner goes away and comes back."""

from __future__ import annotations

from cryptography import x509

from agent.errors import DeviceKeyError, SignerBusyError
from tests.support.identity import BENCH_IDENTITY


class UnwellSigner:
    """gone: refuses everything. busy: answers every third call only."""

    def __init__(self) -> None:
        self.gone = False
        self.busy = False
        self._asked = 0

    @property
    def certificate(self) -> x509.Certificate:
        return BENCH_IDENTITY.signer.certificate

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return BENCH_IDENTITY.signer.chain

    @property
    def description(self) -> str:
        return BENCH_IDENTITY.signer.description

    def sign(self, data: bytes) -> bytes:
        """See agent.trust.signer.Signer."""
        self._asked += 1
        if self.gone:
            raise DeviceKeyError("The token is not there.")
        if self.busy and self._asked % 3:
            raise SignerBusyError("The token is busy with something else.")
        return BENCH_IDENTITY.signer.sign(data)
