"""Whether two paths lie on one disk, by what the kernel says of block devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.witness import medium
from agent.witness.medium import share_medium


class Machine:
    """A /sys in a folder, and which device each path lies on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sys = folder / "dev"
        self.sys.mkdir()
        self.devices = folder / "devices"
        self.on: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

        def nearest(path: Path) -> object:
            number = self.on[path.parts[1]]
            return type("P", (), {"stat": lambda _: type("S", (), {"st_dev": number})()})()

        monkeypatch.setattr(medium, "_nearest", nearest)

    def disk(self, name: str, *partitions: str) -> None:
        for part in ("", *partitions):
            where = self.devices / name / part
            where.mkdir(parents=True, exist_ok=True)
            if part:
                (where / "partition").write_text("1\n")
            self._device(part or name, where)

    def made_of(self, name: str, *below: str) -> None:
        slaves = self.devices / name / "slaves"
        slaves.mkdir(parents=True)
        for one in below:
            number = self._numbers[one]
            (slaves / one).symlink_to((self.sys / f"{os.major(number)}:{os.minor(number)}").resolve())
        self._device(name, slaves.parent)

    def _device(self, name: str, where: Path) -> None:
        number = self._numbers[name] = os.makedev(8, len(self._numbers))
        (self.sys / f"8:{os.minor(number)}").symlink_to(where)

    def share(self, vault: str | int, witness: str | int) -> bool | None:
        for path, device in (("v", vault), ("w", witness)):
            self.on[path] = device if isinstance(device, int) else self._numbers[device]
        return share_medium(Path("/v/vault"), Path("/w/head"), self.sys)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)
    made.disk("mmcblk0", "mmcblk0p1", "mmcblk0p2")
    made.disk("mmcblk1", "mmcblk1p1")
    made.made_of("dm-0", "mmcblk0p2")
    made.made_of("md0", "dm-0", "mmcblk1p1")
    return made


@pytest.mark.parametrize(
    ("vault", "witness", "shared"),
    [
        ("mmcblk0p1", "mmcblk0p1", True),
        ("mmcblk0p1", "mmcblk0p2", True),
        ("mmcblk0p1", "mmcblk0", True),
        ("mmcblk0p1", "mmcblk1p1", False),
        ("mmcblk0p2", "mmcblk1", False),
        ("dm-0", "mmcblk0p1", True),
        ("dm-0", "mmcblk1p1", False),
        ("md0", "mmcblk1p1", True),
        ("md0", "mmcblk0p1", True),
        (os.makedev(0, 44), "mmcblk0p1", None),
        (os.makedev(0, 44), os.makedev(0, 45), None),
        (os.makedev(0, 44), os.makedev(0, 44), True),
    ],
)
def test_partitions_and_what_is_made_of_them_are_their_disk(
    machine: Machine, vault: str | int, witness: str | int, shared: bool | None
) -> None:
    assert machine.share(vault, witness) is shared


def test_two_paths_beside_one_another_share_a_medium_also_before_they_are_there(tmp_path: Path) -> None:
    assert share_medium(tmp_path / "card" / "vault", tmp_path / "other" / "head") is True
