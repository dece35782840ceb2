"""The installed units, by systemd's own tools and by what they name: paths, users and groups have to come from here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.clock import NS_PER_S
from agent.controller.controller import STOP_TIMEOUT_NS
from agent.daemon.watchdog import START_EXTENSION_S, TELL_NS
from agent.daemon.watched_camera import ENDING_NS
from agent.errors import ConfigError, DeviceKeyError
from agent.panel.fault_light import LOCK
from agent.settings.schema import Settings
from agent.trust.credentials import DEVICE_KEY, TOKEN_PIN
from tests.unit.systemd.conftest import ROOT, Tree

UNIT_FOLDER = "/usr/local/lib/systemd/system"
SERVICES = ("bodycam", "bodycam-fault", "bodycam-offload", "bodycam-scrub", "bodycam-timestamp")
SECURITY = ("systemd-analyze", "security", "--offline=true", "--no-pager")


def options(tree: Tree, name: str) -> dict[str, list[str]]:
    """Every assignment of a unit by its key, in order."""
    found: dict[str, list[str]] = {}
    for line in tree.path(f"{UNIT_FOLDER}/{name}").read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def seconds(text: str) -> int:
    assert re.fullmatch(r"\d+", text), text
    return int(text)


@pytest.fixture(scope="module")
def system(shared: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree with the system's own units beside it, as systemd sees it on a device."""
    root = tmp_path_factory.mktemp("system") / "root"
    shutil.copytree(shared.root, root, symlinks=True, ignore=shutil.ignore_patterns("site-packages"))
    shutil.copytree("/lib/systemd/system", root / "lib/systemd/system", symlinks=True)
    for program in ("bin/systemctl",):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).write_text("")
        (root / program).chmod(0o755)
    return root


@pytest.mark.parametrize(
    "unit", [*(f"{name}.service" for name in SERVICES), "bodycam-offload.timer", "bodycam-scrub.timer"]
)
def test_systemd_finds_nothing_wrong_with_it(system: Path, unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={system}", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "bodycam" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", SERVICES)
def test_exposure_is_at_most_two_and_a_half(shared: Tree, name: str) -> None:
    done = subprocess.run(
        [*SECURITY, "--threshold=25", shared.path(f"{UNIT_FOLDER}/{name}.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


def explained(name: str) -> set[str]:
    """What a line of `systemd-analyze security` that remains stands for, and the word its unit must explain it by."""
    text = (ROOT / "systemd" / f"{name}.service").read_text()
    return set(re.findall(r"\w+", " ".join(re.findall(r"^#(.*)$", text, re.MULTILINE))))


@pytest.mark.parametrize("name", SERVICES)
def test_every_line_that_remains_is_explained_in_the_unit(shared: Tree, name: str) -> None:
    done = subprocess.run(
        [*SECURITY, shared.path(f"{UNIT_FOLDER}/{name}.service")],
        capture_output=True,
        text=True,
        check=True,
    )
    remaining = re.findall(r"^✗ (\S+)", done.stdout, re.MULTILINE)
    assert remaining
    words = explained(name) | {"SystemCallFilter"} & set(options(shared, f"{name}.service"))
    for line in remaining:
        key, _, value = line.partition("=")
        said = {key.removesuffix("/RootImage"), *re.findall(r"AF_\w+", value)}
        if key in ("RestrictAddressFamilies", "UMask", "DeviceAllow", "SystemCallFilter", "SupplementaryGroups"):
            # Said by a line of the unit itself, which stands under its reason.
            assert key in options(shared, f"{name}.service") or key == "DeviceAllow", line
        else:
            assert said & words, f"{name}.service says nothing of {line}"


def sysusers(tree: Tree) -> tuple[set[str], set[str]]:
    lines = [
        line.split()
        for line in tree.path("/usr/local/lib/sysusers.d/bodycam.conf").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    users = {fields[1] for fields in lines if fields[0] == "u"}
    return users, users | {fields[1] for fields in lines if fields[0] == "g"} | {
        fields[2] for fields in lines if fields[0] == "m"
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_user_and_group_is_made(shared: Tree, name: str) -> None:
    users, groups = sysusers(shared)
    unit = options(shared, f"{name}.service")
    assert unit["User"][0] in users
    assert {*unit["Group"], *" ".join(unit.get("SupplementaryGroups", [])).split()} <= groups


def test_users_and_folders_fit_together(shared: Tree) -> None:
    users, groups = sysusers(shared)
    for line in shared.path("/usr/local/lib/tmpfiles.d/bodycam.conf").read_text().splitlines():
        if line and not line.startswith("#"):
            kind, _, mode, user, group, _ = line.split()
            assert kind == "d"
            assert user in users | {"root"}
            assert group in groups | {"root"}
            assert re.fullmatch(r"[02]7[057][05]", mode), line
    rules = shared.path("/usr/local/lib/udev/rules.d/72-bodycam.rules").read_text()
    assert set(re.findall(r'GROUP="(\w+)"', rules)) <= groups
    assert set(re.findall(r"start (\S+?)\"", rules)) == {"bodycam-offload.service"}


def made_folders(tree: Tree) -> set[str]:
    text = tree.path("/usr/local/lib/tmpfiles.d/bodycam.conf").read_text()
    return set(re.findall(r"^d (\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", SERVICES)
def test_every_path_is_installed_or_made(shared: Tree, name: str) -> None:
    unit = options(shared, f"{name}.service")
    folders = made_folders(shared)
    for key in ("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ConditionPathIsMountPoint"):
        for path in " ".join(unit.get(key, [])).split():
            assert path.lstrip("-+") in folders, f"{key}={path}"
    for key in ("ExecStart", "ExecStopPost"):
        for command in unit.get(key, []):
            program = command.lstrip("-+").split()[0]
            assert program == "/bin/systemctl" or shared.path(program).exists(), command
    for credential in unit.get("LoadCredential", []):
        assert credential.partition(":")[2] in folders
    for document in unit["Documentation"]:
        assert shared.path(document.removeprefix("file:")).is_file()
    assert unit["WorkingDirectory"][0] in ("%t/bodycam", "/") if "WorkingDirectory" in unit else name == "bodycam-fault"


def test_folders_are_those_of_the_default_configuration(shared: Tree) -> None:
    vault, folders = Settings().vault, made_folders(shared)
    assert str(vault.path.parent) in folders
    assert str(vault.key_path.parent) in folders
    assert str(vault.receipt_queue_path) in folders
    assert str(LOCK.parent) in folders
    assert options(shared, "bodycam.service")["RuntimeDirectory"] == [vault.socket_path.parent.name]
    users, _ = sysusers(shared)
    assert set(vault.socket_users) <= users


def test_only_the_agent_may_have_a_camera_and_a_key(shared: Tree) -> None:
    for name in ("bodycam-offload", "bodycam-timestamp"):
        unit = options(shared, f"{name}.service")
        assert unit["PrivateDevices"] == ["yes"]
        assert unit["DevicePolicy"] == ["closed"]
        assert "DeviceAllow" not in unit
        assert "LoadCredential" not in unit
        assert unit["User"] != options(shared, "bodycam.service")["User"]
        hidden = " ".join(unit["InaccessiblePaths"])
        assert "-/etc/bodycam/credentials" in hidden
        assert "/var/lib/bodycam" in hidden
        assert set(unit["RestrictAddressFamilies"][0].split()) == {"AF_UNIX", "AF_INET", "AF_INET6"}
    offload = options(shared, "bodycam-offload.service")
    assert offload["ReadOnlyPaths"] == ["-/var/lib/bodycam"]
    assert offload["ReadWritePaths"] == ["-/var/lib/bodycam/receipts -/media/bodycam-store"]


def test_the_scrub_reads_the_vault_with_what_nobody_else_wants(shared: Tree) -> None:
    unit = options(shared, "bodycam-scrub.service")
    # What it reports becomes a record: so it is the agent's own user, without its key, its devices, and any network.
    assert unit["User"] == options(shared, "bodycam.service")["User"]
    assert unit["InaccessiblePaths"] == ["-/var/lib/bodycam/key -/etc/bodycam/credentials"]
    assert unit["ReadOnlyPaths"] == ["-/var/lib/bodycam"]
    assert unit["ReadWritePaths"] == ["-/var/lib/bodycam/scrub"]
    for key, value in {
        "PrivateNetwork": "yes",
        "RestrictAddressFamilies": "AF_UNIX",
        "PrivateDevices": "yes",
        "DevicePolicy": "closed",
        "CapabilityBoundingSet": "",
        "IOSchedulingClass": "idle",
        "Nice": "19",
        "TimeoutStartSec": "infinity",
        "MemorySwapMax": "0",
    }.items():
        assert unit[key] == [value], key
    (command,) = unit["ExecStart"]
    state = re.search(r"--state (\S+)", command)
    assert state is not None
    assert str(Path(state[1]).parent) in made_folders(shared)


def test_the_agent_has_no_network_no_swap_no_core_dumps_no_capability(shared: Tree) -> None:
    unit = options(shared, "bodycam.service")
    for key, value in {
        "Type": "notify",
        "NotifyAccess": "main",
        "Restart": "always",
        "StartLimitIntervalSec": "0",
        "PrivateNetwork": "yes",
        "MemorySwapMax": "0",
        "LimitCORE": "0",
        "CapabilityBoundingSet": "",
        "AmbientCapabilities": "",
        "KillMode": "mixed",
    }.items():
        assert unit[key] == [value], key
    assert not {"AF_INET", "AF_INET6"} & set(unit["RestrictAddressFamilies"][0].split())


def test_the_units_times_fit_the_agents(shared: Tree) -> None:
    unit = options(shared, "bodycam.service")
    watchdog_s = seconds(unit["WatchdogSec"][0])
    assert watchdog_s * NS_PER_S >= 4 * TELL_NS
    assert watchdog_s > 10  # the longest card stall that nothing may be lost by
    assert seconds(unit["TimeoutStopSec"][0]) * NS_PER_S >= max(ENDING_NS, STOP_TIMEOUT_NS + 13 * NS_PER_S)
    assert seconds(unit["TimeoutStartSec"][0]) > START_EXTENSION_S
    assert seconds(unit["RestartSec"][0]) <= 2


def test_what_a_repeat_makes_worse_is_not_repeated_and_all_else_is(shared: Tree) -> None:
    assert options(shared, "bodycam.service")["RestartPreventExitStatus"] == [str(DeviceKeyError.exit_code)]
    assert options(shared, "bodycam-timestamp.service")["RestartPreventExitStatus"] == [str(ConfigError.exit_code)]


def test_the_clocks_state_can_be_read_in_the_sandbox(shared: Tree) -> None:
    """ProtectClock= would turn every record's clock source into "unsynchronised", without anybody noticing."""
    unit = options(shared, "bodycam.service")
    assert "ProtectClock" not in unit
    assert "ProcSubset" not in unit
    assert {"adjtimex", "clock_adjtime"} <= set(unit["SystemCallFilter"][-1].split())
    assert "PrivateUsers" not in unit  # SO_PEERCRED


def test_credentials_have_the_names_that_the_agent_looks_for(shared: Tree) -> None:
    (loaded,) = options(shared, "bodycam.service")["LoadCredential"]
    name, folder = loaded.split(":")
    assert f"{name}_device.key" == DEVICE_KEY
    assert f"{name}_token.pin" == TOKEN_PIN
    # A folder is loaded file by file (systemd 250), and one that is empty is no failure.
    assert folder == "/etc/bodycam/credentials"


def test_the_fault_light_needs_nothing_of_the_agents(shared: Tree) -> None:
    unit = options(shared, "bodycam-fault.service")
    assert unit["ExecStart"] == ["/opt/bodycam/lib/bodycam/fault-light"]
    script = shared.path("/opt/bodycam/lib/bodycam/fault-light").read_text()
    assert script.startswith("#!/usr/bin/python3 -I\n")
    assert "/opt/bodycam" not in script
    assert options(shared, "bodycam.service")["ExecStopPost"] == [
        "-+/bin/systemctl --no-block start bodycam-fault.service"
    ]
    assert unit["User"] == options(shared, "bodycam.service")["User"]  # so that the agent may end it
    assert unit["DeviceAllow"] == ["char-gpiochip rw"]


@pytest.mark.parametrize(
    ("tool", "options_", "file"),
    [
        ("systemd-sysusers", ["--dry-run"], "sysusers.d/bodycam.conf"),
        ("systemd-tmpfiles", ["--create", "--dry-run"], "tmpfiles.d/bodycam.conf"),
    ],
)
def test_systemd_understands_users_and_folders(
    shared: Tree, tmp_path: Path, tool: str, options_: list[str], file: str
) -> None:
    known = subprocess.run([tool, "--help"], capture_output=True, text=True, check=True).stdout
    if "--dry-run" not in known:
        # Older systemd-tmpfiles only knows how to do it: in a root of its own, with the users there are.
        options_ = ["--create", "--prefix=/nothing"]
    done = subprocess.run(
        [tool, *options_, f"--root={tmp_path}", str(shared.path(f"/usr/local/lib/{file}"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Unknown" not in done.stderr
    assert "ignoring" not in done.stderr.lower()
