"""`make install` and `make uninstall`: what they put where, and what they never touch."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.settings.load import load_settings
from agent.settings.schema import Settings
from tests.unit.systemd.conftest import ROOT, Tree

UNITS = ("bodycam.service", "bodycam-fault.service", "bodycam-offload.service", "bodycam-offload.timer")
OUTSIDE = {
    "/etc/bodycam/bodycam.toml",
    *(f"/etc/bodycam/profiles/{name}.toml" for name in ("bench", "pi-4-cm4", "pi-5", "pi-zero-2w")),
    "/usr/local/bin/bodycam",
    *(
        f"/usr/local/lib/systemd/system/{name}"
        for name in (*UNITS, "bodycam-timestamp.service", "bodycam-scrub.service", "bodycam-scrub.timer")
    ),
    "/usr/local/lib/sysusers.d/bodycam.conf",
    "/usr/local/lib/tmpfiles.d/bodycam.conf",
    "/usr/local/lib/tmpfiles.d/bodycam-dma-heap.conf",
    "/usr/local/lib/modules-load.d/bodycam.conf",
    "/usr/local/lib/udev/rules.d/72-bodycam.rules",
}


@pytest.fixture
def own(shared: Tree, tmp_path: Path) -> Iterator[Tree]:
    """A copy to change."""
    copy = tmp_path / "device"
    shutil.copytree(shared.root, copy, symlinks=True)
    yield Tree(copy)
    shutil.rmtree(copy)


def test_outside_its_own_folder_there_are_these_files_and_no_others(shared: Tree) -> None:
    assert {path for path in shared.files() if not path.startswith("/opt/bodycam/")} == OUTSIDE


def test_nothing_in_it_knows_where_it_was_built(shared: Tree) -> None:
    built = str(shared.root).encode()
    for path in shared.files():
        file = shared.path(path)
        if file.is_symlink():
            assert built not in bytes(file.readlink()), path
        else:
            data = file.read_bytes()
            assert built not in data, path
            assert b"@PREFIX@" not in data, path


def test_the_command_is_the_agents_and_runs(shared: Tree) -> None:
    command = shared.path("/opt/bodycam/bin/bodycam")
    assert command.read_text().splitlines()[0] == "#!/opt/bodycam/bin/python -s"
    assert str(shared.path("/usr/local/bin/bodycam").readlink()) == "/opt/bodycam/bin/bodycam"
    done = subprocess.run(
        [shared.path("/opt/bodycam/bin/python"), "-s", command, "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0.1.0"
    assert done.stderr == ""


def test_the_agent_is_whole_and_as_it_lies_here(shared: Tree) -> None:
    (packages,) = shared.path("/opt/bodycam/lib").glob("python3*/site-packages")
    sources = [path for path in (ROOT / "agent").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(sources) > 150
    for source in sources:
        assert (packages / source.relative_to(ROOT)).read_bytes() == source.read_bytes()
    assert (packages / "agent/verify/kit/verify.sh").is_file()


def test_modes_let_everybody_read_and_only_root_write(shared: Tree) -> None:
    for path in shared.files():
        file = shared.path(path)
        if not file.is_symlink():
            mode = stat.S_IMODE(file.stat().st_mode)
            assert mode & 0o022 == 0, path
            assert mode & 0o444 == 0o444, path
    for path in ("/opt/bodycam/bin/bodycam", "/opt/bodycam/lib/bodycam/fault-light"):
        assert os.access(shared.path(path), os.X_OK)


def test_the_installed_configuration_loads_and_changes_no_default(shared: Tree) -> None:
    loaded = load_settings(shared.path("/etc/bodycam/bodycam.toml"))
    assert loaded.settings == Settings()
    for profile in shared.path("/etc/bodycam/profiles").iterdir():
        load_settings(profile)


def test_a_profile_is_taken_as_the_documentation_says(own: Tree) -> None:
    config = own.path("/etc/bodycam/bodycam.toml")
    text = config.read_text()
    assert text.count('#extends = "profiles/pi-4-cm4.toml"') == 1
    config.write_text(text.replace('#extends = "profiles/pi-4-cm4.toml"', 'extends = "profiles/pi-zero-2w.toml"'))
    assert load_settings(config).settings.buffer.max_bytes == 40_000_000


def test_uninstall_leaves_vault_key_and_configuration_and_nothing_else(own: Tree) -> None:
    evidence = own.path("/var/lib/bodycam/vault/journal/000001.journal")
    key = own.path("/var/lib/bodycam/key/device.key")
    for file in (evidence, key):
        file.parent.mkdir(parents=True)
        file.write_text("dear")
    own.path("/etc/bodycam/bodycam.toml").write_text("# mine\n")
    kept = {path for path in OUTSIDE if path.startswith("/etc/bodycam/")}
    own.make("uninstall")
    assert own.files() == kept | {"/var/lib/bodycam/vault/journal/000001.journal", "/var/lib/bodycam/key/device.key"}
    assert evidence.read_text() == "dear"
    assert own.path("/etc/bodycam/bodycam.toml").read_text() == "# mine\n"
    assert not own.path("/opt/bodycam").exists()
    assert not own.path("/usr/local/lib").exists()
    own.make("uninstall")  # again does nothing


def test_an_update_keeps_what_was_edited_and_renews_what_was_not(own: Tree) -> None:
    edited, untouched, older = (
        own.path(f"/etc/bodycam/{name}") for name in ("bodycam.toml", "profiles/pi-5.toml", "profiles/bench.toml")
    )
    edited.write_text('[device]\nid = "CAM-7"\n')
    # As if the version before had brought another bench profile, and nobody had edited it.
    older.write_text("# an earlier version's\n")
    record = own.path("/opt/bodycam/share/configuration.sha256")
    text = record.read_text().splitlines()
    digest = hashlib.sha256(older.read_bytes()).hexdigest()
    record.write_text("\n".join(f"{digest}  {line[66:]}" if "bench" in line else line for line in text) + "\n")
    said = own.make("install")
    assert edited.read_text() == '[device]\nid = "CAM-7"\n'
    assert "/etc/bodycam/bodycam.toml was changed and stays as it is" in said
    assert (edited.parent / "bodycam.toml.new").read_bytes() == (ROOT / "config/bodycam.toml").read_bytes()
    assert older.read_bytes() == (ROOT / "config/profiles/bench.toml").read_bytes()
    assert untouched.read_bytes() == (ROOT / "config/profiles/pi-5.toml").read_bytes()
    assert not own.path("/etc/bodycam/profiles/bench.toml.new").exists()


@pytest.mark.parametrize("prefix", ["/", "/usr", "opt/bodycam", "/opt/body cam", "/opt/bodycam/"])
def test_a_prefix_that_could_do_harm_is_refused(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/keep").touch()
    for command in ("install", "uninstall"):
        done = subprocess.run(
            [ROOT / "tools/install.sh", command],
            env={**os.environ, "DESTDIR": str(tmp_path), "PREFIX": prefix},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "PREFIX must be" in done.stderr
    assert (tmp_path / "usr/keep").exists()


def test_uninstall_removes_no_folder_that_is_not_ours(own: Tree) -> None:
    own.path("/opt/bodycam/bin/bodycam").unlink()
    own.path("/usr/local/lib/systemd/system/somebody.service").touch()
    own.make("uninstall")
    assert own.path("/opt/bodycam/lib").is_dir()
    assert own.path("/usr/local/lib/systemd/system/somebody.service").exists()
