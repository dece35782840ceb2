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
LOCKS = ("dev.lock", "footage.lock", "locker.lock", "run.lock")
MAX_FILE_LINES = 400
HEAVY_OR_PI_ONLY = frozenset({"cv2", "libcamera", "picamera2", "pkcs11"})

BOTTOM = {"errors", "clock", "media", "encryption", "settings"}
PARTS = BOTTOM | {"ring", "vault", "capture", "controller", "trust"}
# Each room and the rooms it may import. An import missing here points the wrong way, or is a new arrow to think about.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "clock": {"errors"},
    "media": {"errors", "clock"},
    "encryption": {"errors"},
    # It asks the library whether a recipient is one.
    "settings": {"errors", "clock", "media", "encryption"},
    "ring": BOTTOM,
    "vault": BOTTOM,
    "capture": BOTTOM,
    "controller": BOTTOM,
    # The journal in the vault asks for a signer through a Protocol of its own, so neither room knows the other.
    "trust": BOTTOM,
    "signing": BOTTOM | {"trust"},
    "encode": PARTS,
    "recorder": PARTS | {"encode"},
    "panel": PARTS,
    "control": PARTS,
    "verify": PARTS,
    "offload": PARTS | {"control", "verify"},
    "doctor": PARTS | {"encode", "panel", "control"},
    "daemon": PARTS | {"encode", "signing", "recorder", "panel", "control", "verify", "offload"},
    # It runs `bodycam` as a process and looks at it from outside.
    "demo": PARTS | {"panel", "control"},
    "cli": PARTS | {"encode", "recorder", "panel", "control", "verify", "offload", "doctor", "daemon", "demo"},
    "__main__": {"cli"},
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


def wrong_arrows(package: Path, allowed: dict[str, set[str]]) -> list[str]:
    """Imports between rooms of `package` that `allowed` does not hold, as `file:line room -> room`."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        room = room_of(path, package)
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for line, name in imported_modules(ast.parse(path.read_text(), str(path)), module):
            head, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            # A name of the package itself (its version) belongs to no room.
            is_room = (package / target).is_dir() or (package / f"{target}.py").is_file()
            if head == package.name and is_room and target not in {"__init__", room} | allowed.get(room, set()):
                wrong.append(f"{path.relative_to(package.parent)}:{line} {room} -> {target}")
    return wrong


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


def test_every_room_has_its_place_in_the_table() -> None:
    rooms = {room_of(path, AGENT) for path in AGENT.rglob("*.py")} - {"__init__"}
    assert rooms <= ALLOWED.keys()


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
    (package / "errors.py").touch()
    (package / "ring" / "ring.py").write_text(f"from agent import __version__\nfrom agent.errors import X\n{line}\n")
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
