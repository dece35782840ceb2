"""Storage, clock, key and host: what is said of good ones and of each kind of bad one."""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock, SystemClock, WallObservation
from agent.doctor.check import Check, State
from agent.doctor.host import HostFacts, check_host, judge_host, probe_host
from agent.doctor.identity import check_identity
from agent.doctor.storage import (
    StorageFacts,
    check_storage,
    filesystem_type,
    gop_bytes,
    judge_storage,
    probe_storage,
)
from agent.doctor.wall_clock import ClockFacts, judge_clock, probe_clock
from agent.settings.rate import recording_bytes_per_s
from agent.settings.schema import AudioSettings, BufferSettings, DeviceSettings, Settings, VaultSettings, VideoSettings
from agent.trust.certificates import make_bench_root, make_device_certificate, pem
from agent.trust.identity import IdentityPaths, enroll_bench
from agent.vault.layout import VaultLayout
from tests.unit.doctor.test_devices import says

# Storage


def settings_at(vault: Path, **more: object) -> Settings:
    return Settings(vault=VaultSettings(path=vault, key_path=vault.parent / "device.key"), **more)  # type: ignore[arg-type]


def storage_facts(
    *sync_ms: float, free_bytes: int = 10**11, filesystem: str = "ext4", exists: bool = True, error: str | None = None
) -> StorageFacts:
    sync_ns = tuple(int(ms * NS_PER_MS) for ms in sync_ms or (5, 6, 7, 8, 9))
    return StorageFacts(Path("/vault"), exists, filesystem, free_bytes, sync_ns, error)


def storage_check(name: str, facts: StorageFacts, settings: Settings | None = None) -> Check:
    return {check.name: check for check in judge_storage(facts, settings or Settings())}[name]


def test_what_a_recording_writes() -> None:
    assert recording_bytes_per_s(Settings()) == (6_000_000 + 64_000) / 8
    assert recording_bytes_per_s(Settings(audio=AudioSettings(source="none"))) == 750_000
    assert gop_bytes(Settings(video=VideoSettings(gop_ms=500))) == 379_000


def test_free_space_is_told_in_minutes_of_recording() -> None:
    per_minute = 60 * 758_000
    says(storage_check("space", storage_facts(free_bytes=61 * per_minute)), State.OK, "is 61 minutes")
    says(storage_check("space", storage_facts(free_bytes=59 * per_minute)), State.WARN, "is 59 minutes", "Offload")
    says(storage_check("space", storage_facts(free_bytes=9 * per_minute)), State.FAIL, "is 9 minutes")
    says(storage_check("space", storage_facts(free_bytes=0)), State.FAIL, "is 0 minutes")


@pytest.mark.parametrize(
    ("sync_ms", "state", "word"),
    [
        ((5, 6, 7, 8, 9), State.OK, "took 5 to 9 ms in 5 tries"),
        ((5, 6, 600, 8, 9), State.WARN, "little reserve"),
        ((900, 900, 1300, 900, 1100), State.FAIL, "slower than the 1000 ms"),
        ((5, 6, 3001, 8, 9), State.FAIL, "alarmed"),
    ],
)
def test_a_card_is_judged_by_how_soon_a_gop_is_durable(sync_ms: tuple[float, ...], state: State, word: str) -> None:
    says(storage_check("fsync", storage_facts(*sync_ms)), state, word)


@pytest.mark.parametrize(
    ("filesystem", "profile", "state"),
    [
        ("ext4", "production", State.OK),
        ("tmpfs", "production", State.FAIL),
        ("tmpfs", "bench", State.WARN),
        ("overlay", "production", State.WARN),
        ("nfs4", "bench", State.FAIL),
    ],
)
def test_a_vault_belongs_on_flash(filesystem: str, profile: str, state: State) -> None:
    says(storage_check("vault", storage_facts(filesystem=filesystem), Settings(profile=profile)), state, filesystem)


def test_a_vault_is_tried_where_it_lies_and_nothing_stays(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    facts = probe_storage(vault, 1000, SystemClock())
    assert (facts.folder, facts.exists, facts.error) == (vault, True, None)
    assert len(facts.sync_ns) == 5
    assert all(ns > 0 for ns in facts.sync_ns)
    assert facts.free_bytes == pytest.approx(os.statvfs(vault).f_bavail * os.statvfs(vault).f_frsize, rel=0.2)
    assert list(vault.iterdir()) == []


def test_a_vault_that_is_not_there_yet_is_tried_above(tmp_path: Path) -> None:
    facts = probe_storage(tmp_path / "not" / "yet", 1000, SystemClock())
    assert (facts.folder, facts.exists) == (tmp_path, False)
    says(storage_check("vault", replace(facts, filesystem="ext4")), State.OK, "is not there yet")
    assert list(tmp_path.iterdir()) == []


def test_each_sync_is_timed_with_a_whole_gop_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimulatedClock()
    sizes: list[int] = []

    def slow(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        clock.advance_ns(7 * NS_PER_MS)

    monkeypatch.setattr(os, "fdatasync", slow)
    facts = probe_storage(tmp_path, 1000, clock)
    assert facts.sync_ns == (7 * NS_PER_MS,) * 5
    assert sizes == [1000, 2000, 3000, 4000, 5000]


def test_a_card_that_fails_to_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fails_at_third(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails_at_third)
    checks = check_storage(settings_at(tmp_path), SimulatedClock())
    assert len(checks) == 1
    says(checks[0], State.FAIL, "failed after 2 of 5 times: input/output error", "dmesg")
    assert list(tmp_path.iterdir()) == []


def test_a_vault_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def read_only(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    says(check_storage(settings_at(tmp_path), SimulatedClock())[0], State.FAIL, "read-only file system")


def test_a_vault_that_is_a_file_is_looked_for_above(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("")
    assert probe_storage(tmp_path / "vault", 10, SystemClock()).exists is False


MOUNTINFO = """\
22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw
30 22 0:20 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=1000k
31 22 179:3 / /var/lib/body\\040cam rw - f2fs /dev/mmcblk0p3 rw
32 22 0:30 / /mnt rw master:1 - tmpfs tmpfs rw
33 22 0:31 / /mnt rw - nfs4 server:/x rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/", "ext4"),
        ("/run/user", "tmpfs"),
        ("/running", "ext4"),
        ("/var/lib/body cam/vault", "f2fs"),
        ("/var/lib/body", "ext4"),
        ("/mnt/x", "nfs4"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert filesystem_type(Path(path), MOUNTINFO) == kind
    assert filesystem_type(Path(path), "") == "unknown"


# Clock

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * NS_PER_S


def clock_checks(
    utc_ns: int = NOW_NS,
    source: str = "ntp",
    uncertainty_ms: int | None = 20,
    rtc_s: int | None = 0,
    *,
    rtcs: bool = True,
) -> dict[str, Check]:
    wall = WallObservation(utc_ns, 0, source, uncertainty_ms)
    found = (("rtc-ds1307", None if rtc_s is None else utc_ns // NS_PER_S + rtc_s),) if rtcs else ()
    return {check.name: check for check in judge_clock(ClockFacts(wall, found))}


def test_what_is_said_of_the_clock() -> None:
    says(clock_checks()["clock"], State.OK, "2026-11-20 12:00:00 UTC, synchronised (ntp), within 20 ms")
    says(clock_checks(source="unsynchronised", uncertainty_ms=None)["clock"], State.WARN, "nothing disciplines")
    says(clock_checks(utc_ns=NS_PER_S)["clock"], State.WARN, "1970-01-01", "never set")
    says(clock_checks(uncertainty_ms=1500)["clock"], State.WARN, "within 1500 ms")
    says(clock_checks(uncertainty_ms=None)["clock"], State.WARN, "unknown uncertainty")


def test_what_is_said_of_the_real_time_clock() -> None:
    says(clock_checks(rtc_s=-1)["rtc"], State.OK, "rtc-ds1307")
    says(clock_checks(rtc_s=61)["rtc"], State.WARN, "61 s away")
    says(clock_checks(rtc_s=-3600)["rtc"], State.WARN, "3600 s away")
    says(clock_checks(rtc_s=None)["rtc"], State.WARN, "cannot be read")
    says(clock_checks(rtcs=False)["rtc"], State.WARN, "no real-time clock")


def test_real_time_clocks_are_read_from_sysfs(tmp_path: Path) -> None:
    for name, epoch in (("rtc0", "1795176000\n"), ("rtc1", "nonsense")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text("rtc-ds1307 1-0068\n")
        (tmp_path / name / "since_epoch").write_text(epoch)
    assert probe_clock(SimulatedClock(), tmp_path).rtcs == (("rtc-ds1307 1-0068", 1_795_176_000), ("rtc1", None))
    assert probe_clock(SimulatedClock(), tmp_path / "none").rtcs == ()


# Key


@pytest.fixture
def enrolled(tmp_path: Path) -> Settings:
    """A camera with a bench identity, enrolled at NOW."""
    settings = settings_at(tmp_path / "vault")
    layout = VaultLayout(settings.vault.path)
    layout.root.mkdir()
    paths = IdentityPaths(settings.vault.key_path, layout.chain, layout.root_certificate)
    enroll_bench(paths, settings.device.id, "0001", NOW, has_records=False)
    return settings


def key_check(settings: Settings, at: datetime = NOW) -> Check:
    return check_identity(settings, SimulatedClock(utc_ns=int(at.timestamp()) * NS_PER_S))


def test_an_enrolled_camera(enrolled: Settings) -> None:
    says(key_check(enrolled), State.OK, '"CAM-0001"', "software (exportable)", "valid until 2046-")


def test_no_key_and_no_certificate(enrolled: Settings) -> None:
    enrolled.vault.key_path.rename(enrolled.vault.key_path.with_name("away"))
    says(key_check(enrolled), State.FAIL, "There is no device key", "Run `bodycam enroll --bench`", "`--csr FILE`")
    enrolled.vault.key_path.with_name("away").rename(enrolled.vault.key_path)
    VaultLayout(enrolled.vault.path).chain.unlink()
    says(key_check(enrolled), State.FAIL, "There is no certificate", "Run `bodycam enroll --bench`", "`--csr FILE`")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read(enrolled: Settings, mode: int) -> None:
    enrolled.vault.key_path.chmod(mode)
    says(key_check(enrolled), State.FAIL, f"has mode {mode:04o}", "chmod 0600")


def test_a_key_that_is_not_the_certificates(enrolled: Settings, tmp_path: Path) -> None:
    other = settings_at(tmp_path / "other" / "vault")
    layout = VaultLayout(other.vault.path)
    layout.root.mkdir(parents=True)
    enroll_bench(
        IdentityPaths(other.vault.key_path, layout.chain, layout.root_certificate), "X", "1", NOW, has_records=False
    )
    other.vault.key_path.replace(enrolled.vault.key_path)
    says(key_check(enrolled), State.FAIL, "does not belong to the device key")


def test_a_certificate_out_of_its_time(enrolled: Settings) -> None:
    says(key_check(enrolled, NOW + timedelta(days=365 * 21)), State.FAIL, "expired", "enroll --install")
    says(key_check(enrolled, NOW - timedelta(days=10)), State.FAIL, "valid only from")
    says(key_check(enrolled, NOW + timedelta(days=20 * 365 - 30)), State.WARN, "issue a new certificate")


def test_an_unset_clock_is_not_held_against_the_certificate(enrolled: Settings) -> None:
    says(key_check(enrolled, datetime(1970, 1, 2, tzinfo=UTC)), State.WARN, "Set the clock first")


def test_a_root_that_did_not_issue_it_and_none_at_all(enrolled: Settings) -> None:
    layout = VaultLayout(enrolled.vault.path)
    layout.root_certificate.write_bytes(pem([make_bench_root(ec.generate_private_key(ec.SECP256R1()), NOW)]))
    says(key_check(enrolled), State.FAIL, "was not issued by any")
    layout.root_certificate.unlink()
    says(key_check(enrolled), State.WARN, "no root certificate")


def test_a_certificate_of_another_camera(enrolled: Settings) -> None:
    renamed = replace(enrolled, device=DeviceSettings(id="CAM-0002"))
    says(key_check(renamed), State.FAIL, '"CAM-0001"', 'device.id is "CAM-0002"')


def test_a_certificate_that_may_not_sign(enrolled: Settings) -> None:
    """A CA's own certificate for the device's key: the chain's checks are asked, not only the dates."""
    from agent.trust.software import load_private_key

    key = load_private_key(enrolled.vault.key_path)
    root = make_bench_root(key, NOW)
    VaultLayout(enrolled.vault.path).chain.write_bytes(pem([root]))
    VaultLayout(enrolled.vault.path).root_certificate.write_bytes(pem([root]))
    assert key_check(enrolled).state is State.FAIL
    device = make_device_certificate(key.public_key(), "CAM-0001", "1", key, root, NOW)
    VaultLayout(enrolled.vault.path).chain.write_bytes(pem([device]))
    assert key_check(enrolled).state is State.OK


# Host

GOOD = HostFacts(4 * 2**30, 3 * 2**30, (), 0, "core")


def host_check(name: str, facts: HostFacts, *, daemon_runs: bool = False) -> Check:
    checks = judge_host(facts, Settings(buffer=BufferSettings(max_bytes=64_000_000)), daemon_runs=daemon_runs)
    return {check.name: check for check in checks}[name]


def test_memory_must_hold_the_agent_and_its_buffer() -> None:
    says(host_check("memory", GOOD), State.OK, "the agent may take 184 MB")
    short = replace(GOOD, available_bytes=183_999_999)
    says(host_check("memory", short), State.WARN, "are available")
    says(host_check("memory", short, daemon_runs=True), State.OK)
    says(host_check("memory", replace(short, total_bytes=183_999_999), daemon_runs=True), State.FAIL, "max_bytes")


def test_swap_is_warned_of() -> None:
    says(host_check("swap", GOOD), State.OK)
    says(host_check("swap", replace(GOOD, swaps=("/dev/zram0", "/var/swap"))), State.WARN, "/dev/zram0, /var/swap")


@pytest.mark.parametrize(
    ("limit", "pattern", "state", "word"),
    [
        (0, "core", State.OK, "No core dumps"),
        (None, "core", State.WARN, "unlimited"),
        (4096, "/tmp/core.%p", State.WARN, "4096 bytes"),
        (0, "|/usr/lib/systemd/systemd-coredump %P", State.WARN, "/usr/lib/systemd/systemd-coredump"),
        (None, "|/bin/false", State.OK, "No core dumps"),
    ],
)
def test_core_dumps_are_warned_of(limit: int | None, pattern: str, state: State, word: str) -> None:
    says(host_check("core dumps", replace(GOOD, core_limit_bytes=limit, core_pattern=pattern)), state, word)


def test_the_host_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "sys" / "kernel").mkdir(parents=True)
    (tmp_path / "sys" / "kernel" / "core_pattern").write_text("core\n")
    (tmp_path / "meminfo").write_text(
        "MemTotal:         435144 kB\nMemFree: 1 kB\nMemAvailable:     200000 kB\nHugePages: 0\n"
    )
    (tmp_path / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n/dev/zram0  partition\t1\t0\t100\n")
    facts = probe_host(tmp_path)
    limit = resource.getrlimit(resource.RLIMIT_CORE)[0]
    assert facts == HostFacts(
        435_144 * 1024, 200_000 * 1024, ("/dev/zram0",), None if limit == resource.RLIM_INFINITY else limit, "core"
    )


def test_this_host_can_be_examined() -> None:
    assert [check.name for check in check_host(Settings(), daemon_runs=False)] == ["memory", "swap", "core dumps"]
