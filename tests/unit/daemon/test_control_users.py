"""Names of users as ids."""

from __future__ import annotations

import pwd

import pytest

from agent.daemon.control_users import allowed_uids
from agent.settings.schema import VaultSettings


def test_users_are_looked_up_and_missing_ones_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {"bodycam-offload": 970, "clerk": 1001}

    def getpwnam(name: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", users[name], 1, "", "/", "/bin/false"))

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    assert allowed_uids(VaultSettings()) == (970,)
    settings = VaultSettings(socket_users=("clerk", "nobody-here", "bodycam-offload"), socket_uids=(970, 5))
    assert allowed_uids(settings) == (5, 970, 1001)
    assert allowed_uids(VaultSettings(socket_users=())) == ()
