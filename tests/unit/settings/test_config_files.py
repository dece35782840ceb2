"""The shipped configuration: the documented defaults are the schema's, and every profile loads."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from agent.settings.combinations import needed_buffer_bytes
from agent.settings.files import CHECKOUT_PROFILES
from agent.settings.keys import key_specs
from agent.settings.load import load_settings
from agent.settings.schema import PATTERN_NAMES, Settings

CONFIG = Path(__file__).parents[3] / "config"
DOCUMENTED = (CONFIG / "bodycam.toml").read_text(encoding="utf-8")
SPECS = {spec.dotted: spec for spec in key_specs()}
PI_PROFILES = ("pi-zero-2w", "pi-4-cm4", "pi-5")


def documented_keys() -> dict[str, tuple[str, str]]:
    """Each commented-out key of bodycam.toml: its value, and the comment above it as one line."""
    found: dict[str, tuple[str, str]] = {}
    section, comment = "", ""
    for line in DOCUMENTED.splitlines():
        if header := re.fullmatch(r"\[([a-z.]+)\]", line):
            section, comment = f"{header[1]}.", ""
        elif key := re.fullmatch(r"#([a-z0-9_]+) = (.+)", line):
            assert section + key[1] not in found
            found[section + key[1]] = (key[2], comment)
            comment = ""
        elif line.startswith("# "):
            comment = f"{comment} {line[2:]}".strip()
        else:
            assert line in {"", "#"}, line
            comment = ""
    return found


def test_the_file_as_shipped_changes_nothing() -> None:
    assert load_settings(CONFIG / "bodycam.toml").settings == Settings()


def test_every_key_is_there_and_no_other() -> None:
    assert set(documented_keys()) - {"extends"} == set(SPECS)


@pytest.mark.parametrize("dotted", SPECS)
def test_a_key_is_documented_with_its_default_and_what_it_takes(dotted: str, tmp_path: Path) -> None:
    value, comment = documented_keys()[dotted]
    spec = SPECS[dotted]
    assert spec.convert(tomllib.loads(f"value = {value}")["value"], tmp_path) == spec.default
    assert comment.endswith(f"{spec.expectation}."), comment
    assert "Takes " in comment


def test_taking_away_every_hash_gives_the_defaults(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=[a-z0-9_]+ = )", "", DOCUMENTED, flags=re.MULTILINE)
    path = tmp_path / "bodycam.toml"
    path.write_text(text.replace('extends = "profiles/pi-4-cm4.toml"', ""), encoding="utf-8")
    assert load_settings(path).settings == Settings()


@pytest.mark.parametrize("dotted", [key for key, spec in SPECS.items() if "low" in spec.metadata])
def test_bounds_in_the_comments_are_enforced(dotted: str, tmp_path: Path) -> None:
    _, comment = documented_keys()[dotted]
    found = re.search(r"from (-?\d+) to (\d+)", comment)
    assert found
    spec = SPECS[dotted]
    wrap = (lambda number: [number]) if spec.kind == tuple[int, ...] else (lambda number: number)
    for good in (int(found[1]), int(found[2])):
        spec.convert(wrap(good), tmp_path)
    for bad in (int(found[1]) - 1, int(found[2]) + 1):
        with pytest.raises(ValueError, match="from"):
            spec.convert(wrap(bad), tmp_path)


def test_every_pattern_name_is_documented() -> None:
    listed = DOCUMENTED[DOCUMENTED.index("[panel]") : DOCUMENTED.index("[recording]")]
    for name in PATTERN_NAMES:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", listed), name


def test_the_profiles_are_the_documented_ones() -> None:
    assert sorted(path.stem for path in CHECKOUT_PROFILES.glob("*.toml")) == sorted((*PI_PROFILES, "bench"))


@pytest.mark.parametrize("name", [*PI_PROFILES, "bench"])
def test_every_profile_loads_by_name_and_by_extends(name: str, tmp_path: Path) -> None:
    by_name = load_settings(None, profile=name)
    local = tmp_path / "bodycam.toml"
    local.write_text(f"extends = '{CHECKOUT_PROFILES / name}.toml'\n", encoding="utf-8")
    assert load_settings(local).settings == by_name.settings
    assert load_settings(CHECKOUT_PROFILES / f"{name}.toml").sha256 == by_name.sha256


@pytest.mark.parametrize("name", PI_PROFILES)
def test_a_profile_for_wearing_has_nothing_of_the_bench(name: str) -> None:
    made = load_settings(None, profile=name).settings
    assert made.profile == "production"
    assert (made.gpio.factory, made.gpio.bench_pin_socket_path) == ("lgpio", "")
    assert made.camera.backend == "picamera2"
    assert len(made.gpio.chip_labels) == 1
    assert made.buffer.max_bytes >= needed_buffer_bytes(made)


def test_the_zero_leaves_most_of_its_memory_to_the_system() -> None:
    made = load_settings(None, profile="pi-zero-2w").settings
    assert made.buffer.max_bytes + 120_000_000 <= 512 * 2**20 // 3


def test_the_pi_5_does_not_ask_for_an_encoder_that_it_lacks() -> None:
    assert load_settings(None, profile="pi-5").settings.video.encoder == "libx264"


def test_the_bench_needs_no_hardware_and_writes_only_where_git_ignores() -> None:
    made = load_settings(None, profile="bench").settings
    assert (made.profile, made.gpio.factory, made.camera.backend) == ("bench", "mock", "synthetic")
    folder = CONFIG.parent / "build" / "bench"
    vault = made.vault
    for path in (
        vault.path,
        vault.key_path,
        vault.socket_path,
        vault.receipt_queue_path,
        made.gpio.bench_pin_socket_path,
    ):
        assert Path(path).is_relative_to(folder)
    assert "/build/" in (CONFIG.parent / ".gitignore").read_text().splitlines()
