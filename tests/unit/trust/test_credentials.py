"""Secrets that systemd hands over: found before the configured paths, and taken with the modes that it gives them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.errors import DeviceKeyError
from agent.settings.schema import Settings, VaultSettings
from agent.trust.certificates import load_chain
from agent.trust.credentials import DEVICE_KEY, TOKEN_PIN, credential
from agent.trust.custody import KeyCustody
from agent.trust.identity import IdentityPaths, enroll_bench
from agent.trust.pin import read_pin


def test_a_credential_goes_before_the_configured_path(tmp_path: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    configured = Path("/etc/bodycam/device.key")
    assert credential(DEVICE_KEY, configured, environment) == configured
    (tmp_path / DEVICE_KEY).touch()
    assert credential(DEVICE_KEY, configured, environment) == tmp_path / DEVICE_KEY
    assert credential(TOKEN_PIN, configured, environment) == configured
    assert credential(DEVICE_KEY, configured, {}) == configured


@pytest.mark.parametrize(
    ("mode", "taken"),
    [
        (0o400, True),
        pytest.param(0o440, True, marks=pytest.mark.skipif(os.geteuid() != 0, reason="a file of root's is needed")),
        (0o444, False),
    ],
)
def test_the_device_signs_with_the_key_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, taken: bool
) -> None:
    vault, handed = tmp_path / "vault/device", tmp_path / "credentials"
    handed.mkdir()
    paths = IdentityPaths(tmp_path / "key/device.key", vault / "chain.pem", vault / "root.pem")
    enroll_bench(paths, "CAM-TEST", None, datetime.now(UTC), has_records=False)
    paths.key.rename(handed / DEVICE_KEY)
    (handed / DEVICE_KEY).chmod(mode)
    chain = load_chain(paths.chain)
    settings = Settings(vault=VaultSettings(path=tmp_path / "vault", key_path=paths.key))
    with pytest.raises(DeviceKeyError, match="There is no device key"):
        KeyCustody(settings).signer(chain)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    custody = KeyCustody(settings)
    if taken:
        assert custody.signer(chain).sign(b"a record")
        custody.settle(chain[0])  # which in a service's read-only folder can only be nothing
        assert [path.name for path in handed.iterdir()] == [DEVICE_KEY]
    else:
        with pytest.raises(DeviceKeyError, match="mode 0444"):
            custody.signer(chain)


def test_the_pin_is_read_from_where_it_was_put(tmp_path: Path) -> None:
    (tmp_path / TOKEN_PIN).write_text("1234\n")
    (tmp_path / TOKEN_PIN).chmod(0o400)
    assert read_pin(credential(TOKEN_PIN, Path("/nowhere"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})) == "1234"
