"""A verifier written from docs/evidence-format.md alone agrees with `bodycam verify`, so the page suffices."""

from __future__ import annotations

import ast
import base64
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS_PER_S, SimulatedClock
from agent.trust.timestamps import make_request
from agent.verify.finding import Code
from agent.verify.interval import utc_ns
from agent.verify.verify import verify_path
from tests.support import second_timestamps, second_verifier
from tests.support.identity import BENCH_IDENTITY, make_identity
from tests.support.packages import offloaded, renew_sums
from tests.support.second_timestamps import time_bounds
from tests.support.second_verifier import Refused, verify_package
from tests.support.stamping import stamp
from tests.support.time_authority import NOW, good_to, time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, fails, flip, forge
from tests.unit.verify.test_verify_script import CASES, KINDS, made

__all__ = ["made"]


@pytest.fixture
def package(made: dict[str, Path], tmp_path: Path) -> Path:
    target = tmp_path / made["plain"].name
    shutil.copytree(made["plain"], target)
    return target


def test_it_knows_nothing_of_the_project() -> None:
    for part in (second_verifier, second_timestamps):
        tree = ast.parse(Path(str(part.__file__)).read_text())
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        modules -= {"tests.support.second_verifier"}
        assert {str(module).partition(".")[0] for module in modules} <= {
            "__future__", "base64", "collections", "cryptography", "dataclasses", "datetime", "hashlib", "json",
            "pathlib", "re", "struct", "subprocess", "tempfile", "typing",
        }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_sound_packages_pass(made: dict[str, Path], kind: str) -> None:
    verify_package(made[kind], [BENCH_IDENTITY.root])


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_refused(package: Path, name: str) -> None:
    CASES[name][0](package)
    renew_sums(package)
    with pytest.raises(Refused):
        verify_package(package, [BENCH_IDENTITY.root])


def test_another_root_is_refused(package: Path) -> None:
    with pytest.raises(Refused, match="leads to the root"):
        verify_package(package, [make_identity().root])


def test_any_flipped_byte_is_judged_alike(package: Path) -> None:
    """Also where nothing signed lies: derived files and pages, whose sums were made anew."""
    files = sorted(path for path in package.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    for path in files:
        size = path.stat().st_size
        for offset in {0, size // 3, size // 2, size - 1}:
            flip(path, offset)
            renew_sums(package)
            try:
                verify_package(package, [BENCH_IDENTITY.root])
                refused = None
            except Refused as error:
                refused = str(error)
            assert (refused is None) == check(package).ok, (path.name, offset, refused, check(package).findings)
            flip(path, offset)


@pytest.fixture
def stamped(tmp_path: Path) -> Path:
    """A package that reaches from a timestamp in another run to the one behind it; between them one that nobody trusts,
    and one within the recording.
    """
    vault = VaultBuilder(tmp_path / "vault", clock=SimulatedClock(utc_ns=int(NOW.timestamp()) * NS_PER_S))
    stamp(vault)
    vault.clock.advance_ns(600 * NS_PER_S)
    stamp(vault, time_authority("Other TSA"))
    vault.record(1)
    recording_id = vault.record(2, meanwhile=lambda _: stamp(vault))
    vault.clock.advance_ns(900 * NS_PER_S)
    stamp(vault)
    return offloaded(vault, tmp_path)[recording_id]


def test_timestamps_bound_the_same_times(stamped: Path) -> None:
    verify_package(stamped, [BENCH_IDENTITY.root])
    names: list[list[str] | None] = [["Test TSA"], ["Other TSA"], ["Test TSA", "Other TSA"], ["Nobody"], None]
    seen = set()
    for trusted in names:
        roots = None if trusted is None else [AUTHORITIES[name].root for name in trusted]
        (recording,) = verify_path(stamped, roots=[BENCH_IDENTITY.root], tsa_roots=roots).recordings
        assert recording.time is not None
        bounds = time_bounds(stamped, recording.recording_id, roots)
        assert tuple(None if bound is None else utc_ns(bound) for bound in bounds) == (
            recording.time.not_before_ns, recording.time.existed_by_ns,
        )  # fmt: skip
        seen.add(bounds)
    assert len(seen) == 4, "each set of authorities leads to other bounds, but both and all to the same"


AUTHORITIES = {name: time_authority(name) for name in ("Other TSA", "Nobody")} | {"Test TSA": time_authority()}


Tokens = list[dict[str, Any]]


@pytest.mark.parametrize(
    "change",
    [
        lambda tokens: {"head_seq": tokens[-1]["head_seq"] - 1},
        lambda _: {"head_sha256": "0" * 64},
        lambda _: {"gen_time": "2026-01-01T00:00:00Z"},
        lambda _: {"requested_boottime_ns": 1 << 62},
        lambda tokens: {"response": tokens[0]["response"]},
        lambda tokens: {"response": tokens[-1]["response"][:-8]},
        lambda tokens: {"response": tokens[-1]["response"] + "===="},
        lambda tokens: {name: tokens[0][name] for name in ("response", "head_seq", "head_sha256", "gen_time")},
        lambda tokens: {"response": over(tokens[-1]["head_sha256"], good_to(86_401))},
    ],
)
def test_timestamps_that_no_camera_writes_are_refused_by_both(
    stamped: Path, change: Callable[[Tokens], dict[str, Any]]
) -> None:
    def edit(documents: Tokens) -> Tokens:
        tokens = [document for document in documents if document["type"] == "timestamp"]
        tokens[-1].update(change(tokens))
        return documents

    forge(stamped / "journal" / "000001.journal", edit, BENCH_IDENTITY.record_signer)
    renew_sums(stamped)
    assert fails(check(stamped)) & {Code.TIMESTAMP_BAD, Code.TIMESTAMP_REPLAYED, Code.RECORD_INVALID}
    with pytest.raises(Refused):
        time_bounds(stamped, stamped.name, None)


def over(sha256: str, accuracy: bytes) -> str:
    """A response over this hash."""
    request = make_request(b"x").der.replace(hashlib.sha256(b"x").digest(), bytes.fromhex(sha256))
    return base64.b64encode(time_authority().at(NOW, accuracy=accuracy)(request)).decode()
