"""Whether the memory lies on other flash than the card: on the card itself it proves nothing against the card."""

from __future__ import annotations

import os
from pathlib import Path

SYS_BLOCK = Path("/sys/dev/block")
"""By major and minor number: see the kernel's Documentation/ABI/testing/sysfs-dev."""


def share_medium(vault: Path, witness: Path, sys_block: Path = SYS_BLOCK) -> bool | None:
    """Whether both lie on one disk; None when that cannot be told. Raises OSError when one cannot be looked at."""
    first, second = (_nearest(path).stat().st_dev for path in (vault, witness.parent))
    if first == second:
        return True
    disks = [_disks(device, sys_block) for device in (first, second)]
    if not all(disks):
        return None
    return bool(disks[0] & disks[1])


def _nearest(path: Path) -> Path:
    folder = path.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder


def _disks(device: int, sys_block: Path) -> frozenset[str]:
    """Names of the whole disks under a device number; none where there is no block device (overlay, btrfs, tmpfs)."""
    link = sys_block / f"{os.major(device)}:{os.minor(device)}"
    return _whole(link.resolve()) if link.exists() else frozenset()


def _whole(block: Path) -> frozenset[str]:
    if (block / "partition").exists():
        return _whole(block.parent)
    slaves = block / "slaves"  # of what is made of others: dm-crypt, LVM, md
    below = sorted(slaves.iterdir()) if slaves.is_dir() else []
    if not below:
        return frozenset({block.name})
    return frozenset().union(*(_whole(slave.resolve()) for slave in below))
