"""Who may use the control socket, as user ids: services get theirs when they are installed, so they are named."""

from __future__ import annotations

import pwd

from agent.settings.schema import VaultSettings


def allowed_uids(settings: VaultSettings) -> tuple[int, ...]:
    """Ids of vault.socket_users and vault.socket_uids, each once. A user that there is not cannot ask either."""
    uids = set(settings.socket_uids)
    for name in settings.socket_users:
        try:
            uids.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue  # a bench has no offload service
    return tuple(sorted(uids))
