"""The project's own rules: locks pin everything, rooms import one way, files stay small, heavy imports stay lazy."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "agent"
LOCKS = ("dev.lock", "footage.lock", "fuzz.lock", "locker.lock", "rig.lock", "run.lock")
MAX_FILE_LINES = 400
HEAVY_OR_PI_ONLY = frozenset({"cv2", "libcamera", "picamera2", "pkcs11", "pyrage"})

# Each room and the rooms it imports: these and no others, so that every new arrow is thought about. docs/design.md says
# the same. The journal in the vault asks for a signer through a Protocol of its own, so vault and trust do not meet.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "media": set(),
    "encryption": {"errors"},
    # It asks the library whether a recipient is one.
    "settings": {"encryption", "errors"},
    "ring": {"media"},
    "vault": {"clock", "errors"},
    # What the card confirmed, remembered outside of it; it asks the vault only for the journal's end.
    "witness": {"clock", "errors", "vault"},
    "trust": {"errors", "settings"},
    "capture": {"clock", "errors", "media", "settings"},
    "signing": {"clock", "errors", "media", "trust"},
    "encode": {"capture", "clock", "errors", "media", "settings"},
    "controller": {"clock", "settings"},
    "recorder": {"clock", "encryption", "errors", "media", "ring", "trust", "vault"},
    "panel": {"clock", "controller", "errors", "settings"},
    "control": {"errors"},
    "verify": {"clock", "encryption", "errors", "media", "signing", "trust", "vault"},
    "offload": {"clock", "errors", "trust", "vault", "verify"},
    # Its own small file outside the vault is put in place as keys are.
    "scrub": {"clock", "errors", "trust", "vault", "verify"},
    "doctor": {
        "capture",
        "clock",
        "encode",
        "encryption",
        "errors",
        "media",
        "recorder",
        "settings",
        "trust",
        "vault",
        "witness",
    },
    "daemon": {
        "capture",
        "clock",
        "control",
        "controller",
        "encode",
        "encryption",
        "errors",
        "media",
        "panel",
        "recorder",
        "ring",
        "settings",
        "signing",
        "trust",
        "vault",
        "witness",
    },
    "demo": {"capture", "clock", "control", "errors", "panel", "settings", "trust", "vault"},
    "cli": {
        "clock",
        "control",
        "daemon",
        "demo",
        "doctor",
        "encryption",
        "errors",
        "media",
        "offload",
        "panel",
        "scrub",
        "settings",
        "signing",
        "trust",
        "vault",
        "verify",
    },
    "__main__": {"cli"},
}
# Where only some of a room's files are another's business.
ALLOWED_FILES: dict[tuple[str, str], set[str]] = {
    ("encode", "capture"): {"camera", "microphone"},
    ("panel", "controller"): {"contact", "signals"},
}


def room_of(path: Path, package: Path) -> str:
    """The room a file belongs to: the folder or module directly under the package."""
    first = path.relative_to(package).parts[0]
    return first.removesuffix(".py")


def imported_modules(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import in `tree`, a file whose own name is `module`.

    `from agent import x` counts as `agent.x`, because x may be a room.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def arrows(package: Path) -> Iterator[tuple[str, str, str, str]]:
    """Every import from one room of `package` in another: `file:line`, room, other room, file of that one."""
    for path in sorted(package.rglob("*.py")):
        room = room_of(path, package)
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for line, name in imported_modules(ast.parse(path.read_text(), str(path)), module):
            head, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            # A name of the package itself (its version) belongs to no room.
            is_room = (package / target).is_dir() or (package / f"{target}.py").is_file()
            if head == package.name and is_room and target not in {"__init__", room}:
                file = rest.partition(".")[2].partition(".")[0]
                yield f"{path.relative_to(package.parent)}:{line}", room, target, file


def wrong_arrows(package: Path, allowed: dict[str, set[str]]) -> list[str]:
    """Imports between rooms of `package` that `allowed` does not hold, as `file:line room -> room`."""
    return [
        f"{place} {room} -> {target}"
        for place, room, target, _ in arrows(package)
        if target not in allowed.get(room, set())
    ]


def rooms_in_words() -> dict[str, set[str]]:
    """The table of docs/design.md: each room and those it uses."""
    text = (ROOT / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| (–|(?:`\w+`(?:, )?)+) \|$", text, re.MULTILINE)
    assert len({room for room, _ in rows}) == len(rows), "a room stands in the table twice"
    return {room: set(re.findall(r"`(\w+)`", uses)) for room, uses in rows}


def imports_at_import_time(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and first name of every import that runs when the module is imported: anywhere but in a function."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]
        pending.extend(ast.iter_child_nodes(node))


def locked(name: str) -> dict[str, list[tuple[Requirement, frozenset[str]]]]:
    """The requirements of a lock by package name, each with its hashes; a package may have one pin for each Python."""
    pins: dict[str, list[tuple[Requirement, frozenset[str]]]] = {}
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "requirements" / name).read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        written, *hashes = line.split("--hash=")
        requirement = Requirement(written)
        pins.setdefault(canonicalize_name(requirement.name), []).append(
            (requirement, frozenset(found.strip() for found in hashes))
        )
    return pins


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_exact_version_and_hashes(name: str) -> None:
    pins = locked(name)
    assert pins
    for requirement, hashes in (pin for found in pins.values() for pin in found):
        assert re.fullmatch(r"==[0-9A-Za-z.!+]+", str(requirement.specifier)), requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


def test_no_lock_is_forgotten_here() -> None:
    assert sorted(path.name for path in (ROOT / "requirements").glob("*.lock")) == sorted(LOCKS)


def test_setup_names_no_package_index() -> None:
    files = [ROOT / "Makefile", ROOT / ".ci/run", *(ROOT / "requirements").iterdir(), *(ROOT / "tools").iterdir()]
    for path in files:
        found = re.findall(r"\S*://\S*|--(?:extra-)?index-url\S*|--find-links\S*", path.read_text())
        assert found == [], f"{path.name} names a place to fetch from; that is the machine's to decide"


def test_locks_still_answer_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for asked in project["optional-dependencies"].values() for line in asked]
    for name, asked in (("run.lock", project["dependencies"]), ("dev.lock", project["dependencies"] + extras)):
        pins = locked(name)
        for wanted in map(Requirement, asked):
            found = pins.get(canonicalize_name(wanted.name), [])
            assert found, f"{wanted} is not in {name}: run make lock"
            for pin, _ in found:
                version = next(iter(pin.specifier)).version
                assert wanted.specifier.contains(version), f"{pin} in {name} is not {wanted}: run make lock"


def test_camera_runs_what_was_tested() -> None:
    tested = locked("dev.lock")
    for name, pins in locked("run.lock").items():
        assert pins == tested[name]


def test_locked_lgpio_can_open_a_chip() -> None:
    # Resolvers limited to manylinux_2_28 quietly take 0.0.0.2, which installs and then fails on the device.
    (pin, _) = locked("run.lock")["lgpio"][0]
    assert Version(next(iter(pin.specifier)).version) >= Version("0.2.2")


def test_rooms_import_one_way() -> None:
    wrong = wrong_arrows(AGENT, ALLOWED)
    assert not wrong, "These imports are not in ALLOWED:\n" + "\n".join(wrong)


def test_of_some_rooms_only_some_files_are_used() -> None:
    wrong = [
        f"{place} {room} -> {target}.{file}"
        for place, room, target, file in arrows(AGENT)
        if file not in ALLOWED_FILES.get((room, target), {file})
    ]
    assert not wrong, "These imports are not in ALLOWED_FILES:\n" + "\n".join(wrong)


def test_no_arrow_is_allowed_that_nobody_uses() -> None:
    found = {(room, target) for _, room, target, _ in arrows(AGENT)}
    assert {(room, target) for room in ALLOWED for target in ALLOWED[room]} - found == set()
    used = {(room, target, file) for _, room, target, file in arrows(AGENT)}
    assert {(*pair, file) for pair in ALLOWED_FILES for file in ALLOWED_FILES[pair]} - used == set()


def test_every_room_has_its_place_in_the_table() -> None:
    rooms = {room_of(path, AGENT) for path in AGENT.rglob("*.py")} - {"__init__"}
    assert rooms == ALLOWED.keys()


def test_the_design_says_the_same_in_words_from_top_to_bottom() -> None:
    said = rooms_in_words()
    assert said == ALLOWED
    order = list(said)
    assert [(room, target) for room in order for target in said[room] if order.index(target) > order.index(room)] == []


def test_the_table_itself_points_one_way() -> None:
    placed: set[str] = set()
    while waiting := ALLOWED.keys() - placed:
        free = {room for room in waiting if ALLOWED[room] <= placed}
        assert free, f"These rooms import each other in a circle: {sorted(waiting)}."
        placed |= free


@pytest.mark.parametrize(
    "line",
    [
        "from agent.daemon.run import Daemon",
        "from agent import daemon",
        "import agent.daemon.run",
        "from ..daemon import run",
        "def later():\n    from agent.daemon import run",
    ],
)
def test_an_arrow_upwards_is_found(tmp_path: Path, line: str) -> None:
    package = tmp_path / "agent"
    for room in ("ring", "daemon"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").touch()
    (package / "media.py").touch()
    (package / "ring" / "ring.py").write_text(f"from agent import __version__\nfrom agent.media import X\n{line}\n")
    assert [found.split(maxsplit=1)[1] for found in wrong_arrows(package, ALLOWED)] == ["ring -> daemon"]


@pytest.mark.parametrize("path", sorted(AGENT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_small_and_light_to_import(path: Path) -> None:
    text = path.read_text()
    lines = len(text.splitlines())
    assert lines <= MAX_FILE_LINES, f"{lines} lines: find the second noun in it and give it a file of its own."
    heavy = [
        (line, name) for line, name in imports_at_import_time(ast.parse(text, str(path))) if name in HEAVY_OR_PI_ONLY
    ]
    assert heavy == [], "Import it in the function that needs it: cv2 costs 40 MB, picamera2 exists only on a Pi."


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import cv2", True),
        ("from cv2 import VideoCapture", True),
        ("import cv2.typing as t", True),
        ("try:\n    import cv2\nexcept ImportError:\n    cv2 = None", True),
        ("class Camera:\n    import cv2", True),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import cv2", True),
        ("if TYPE_CHECKING:\n    import cv2", False),
        ("def opened():\n    import cv2", False),
        ("class Camera:\n    def opened(self):\n        import cv2", False),
        ("from . import cv2", False),
    ],
)
def test_a_heavy_import_is_found_where_it_costs(source: str, found: bool) -> None:
    assert ("cv2" in {name for _, name in imports_at_import_time(ast.parse(source))}) is found
