"""Builds the virtual device from nothing: `python -m tests.rig build`.

Four layers, each in a folder named by a hash of all that goes into it, so that only what changed is made again:
`kernel` (with what Debian lacks), `root` (Debian), `device` (bodycam installed in it) and `warm` (booted once, its
memory saved). They lie in build/rig, or where RIG_CACHE says, which several checkouts may share. Debian's packages are
whatever its mirror holds on the day a layer is made.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
FOLDER = ROOT / "build" / "rig"
"""Where cases and logs go."""
CACHE = Path(os.environ.get("RIG_CACHE") or FOLDER)
"""Where layers go."""
KEPT_LAYERS = 4
"""Of each name: those that were used last."""

HOST_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "zstd": "zstd",
}
"""Programs that are needed here, and the Debian packages that bring them."""

BUILDER_PACKAGES = (
    "busybox-static", "cpio", "gcc", "kmod", "linux-headers-amd64", "make", "python3-dev", "python3-pip",
    "python3-setuptools", "python3-wheel", "swig", "xz-utils",
)  # fmt: skip

DEVICE_PACKAGES = (
    "age", "alsa-utils", "ca-certificates", "dbus", "e2fsprogs", "iproute2", "jq", "kmod", "libcap2-bin", "make",
    "openssl", "procps", "python3", "python3-venv", "systemd", "systemd-sysv", "udev", "util-linux", "v4l-utils",
)  # fmt: skip
"""Of what Raspberry Pi OS Lite has: the base, and what docs/operations.md asks for."""

CAMERA_PACKAGES = (
    "libcamera-ipa/trixie-backports", "python3-jsonschema", "python3-libarchive-c", "python3-numpy", "python3-piexif",
    "python3-libcamera/trixie-backports", "python3-pil", "python3-prctl", "python3-tqdm",
)  # fmt: skip
"""Of what its python3-picamera2 asks for: what Debian has. libcamera is the version that Raspberry Pi OS has; with
Debian 13's own, 0.4.0, picamera2 waits for ever. Without python3-av: the agent's environment has its own before it."""
CAMERA_LOCK = "rig.lock"
"""What Debian does not have of it."""
CAMERA_SOURCES = ("pidng",)
"""Of these there are no wheels."""

MODULES = (
    "cdc-acm", "configfs", "ext4", "f2fs", "gpio-sim", "mmc_block", "sdhci-pci", "snd-aloop", "softdog", "usb-storage",
    "uvcvideo", "vfat", "vhci-hcd", "virtio_blk", "virtio_console", "virtio_net", "virtio_pci", "virtio_rng", "vivid",
)  # fmt: skip

EXTRAS = ("asn1crypto", "opencv-python-headless", "pyrage", "python-pkcs11")
"""Of the development lock: what `make install` takes from it."""

SOURCES = (
    "LICENSE", "Makefile", "README.md", "agent", "config", "docs", "firmware_bridge", "pyproject.toml", "requirements",
    "systemd", "tools",
)  # fmt: skip
"""What of the checkout the device is installed from."""

LEFT_OUT_OF_ROOT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
APT_OPTIONS = ('Acquire::Languages "none"', 'APT::Install-Recommends "false"')
DEVICE_BYTES = 1_600_000_000
BOOT_SETTLE_S = 240.0
MACHINE = "x86_64"


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release and the Python it has."""

    suite: str
    python: str


DEBIAN_12 = Release("bookworm", "3.11")
DEBIAN_13 = Release("trixie", "3.13")
WITH_PICAMERA2 = DEBIAN_13
"""Its guest is what Raspberry Pi OS with python3-picamera2 is; in the other the agent is installed without."""
KERNEL_OF = DEBIAN_13
"""Both run on its kernel, which Debian 12 has as a security update and Raspberry Pi OS had on top of it."""


class BuildError(Exception):
    """A step of the build failed; the message says which, and where its log is."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Where the parts of a built device lie."""

    release: Release
    kernel: Path
    root: Path
    device: Path

    @property
    def vmlinuz(self) -> Path:
        return self.kernel / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.kernel / "initrd.gz"

    @property
    def image(self) -> Path:
        """The device's root file system."""
        return self.device / "root.ext4"


def build(release: Release = DEBIAN_13) -> Layers:
    """Make what is missing. Raises BuildError."""
    _require_host_packages()
    FOLDER.mkdir(parents=True, exist_ok=True)
    key = layer_key(KERNEL_OF, BUILDER_PACKAGES, MODULES, HERE / "image/kernel.sh", HERE / "image/init")
    kernel = layer("kernel", key, _kernel)
    suite = release.suite
    root = layer(f"root-{suite}", _root_key(release), lambda folder: _root(folder, release))
    sources = tracked(*SOURCES)
    key = layer_key(
        kernel.name, root.name, EXTRAS, DEVICE_BYTES, HERE / "image/device.sh",
        *sorted((HERE / "guest").iterdir()), *sources,
    )  # fmt: skip
    device = layer(f"device-{suite}", key, lambda folder: _device(folder, release, kernel, root, sources))
    return Layers(release, kernel, root, device)


def tracked(*names: str) -> list[Path]:
    """Every file of the checkout under these names that git knows, or would know, as it lies."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    paths = (ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name)
    return sorted(path for path in paths if path.is_file())


def requirement_lines(lock: str) -> Iterator[tuple[Requirement, str]]:
    """Each requirement of a lock and its text with hashes, on one line."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "requirements" / lock).read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        yield Requirement(line.split("--hash=")[0]), " ".join(line.split())


def pinned(lock: str, *names: str, python: str) -> str:
    """The lines of a lock (of all packages, or of `names`) that hold on the device, without their markers.

    pip evaluates markers for the Python it runs on and not for the one it downloads for.
    """
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    lines = []
    for requirement, text in requirement_lines(lock):
        wanted = not names or canonicalize_name(requirement.name) in names
        if wanted and (requirement.marker is None or requirement.marker.evaluate(environment)):
            lines.append(f"{requirement.name}{requirement.specifier} {text[text.index('--hash=') :]}")
    return "\n".join(lines) + "\n"


def _kernel(folder: Path) -> None:
    wheels = folder / "wheels"
    source = folder / "lgpio.lock"
    # The lock pins the source package, too; its marker says for which Pythons there are wheels.
    source.write_text(pinned("run.lock", "lgpio", python="3.12"))
    _download_sources(folder, wheels, source)
    (folder / "out").mkdir()
    _mmdebstrap(
        folder, BUILDER_PACKAGES, "--format=null",
        f"--customize-hook=copy-in {HERE}/image/kernel.sh {HERE}/image/init {wheels} /tmp",
        f'--customize-hook=chroot "$1" sh /tmp/kernel.sh {" ".join(MODULES)}',
        f"--customize-hook=sync-out /out {folder}/out",
        KERNEL_OF.suite, "/dev/null",
    )  # fmt: skip
    for path in (folder / "out").iterdir():
        path.rename(folder / path.name)
    (folder / "out").rmdir()


def _root_key(release: Release) -> str:
    inputs: tuple[object, ...] = (release, DEVICE_PACKAGES, LEFT_OUT_OF_ROOT)
    if release == WITH_PICAMERA2:
        lock = ROOT / "requirements" / CAMERA_LOCK
        inputs += (CAMERA_PACKAGES, lock, HERE / "image/camera-sources.sh", HERE / "image/pykms.py")
    return layer_key(*inputs)


def _root(folder: Path, release: Release) -> None:
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT_OF_ROOT]
    packages: tuple[str, ...] = DEVICE_PACKAGES
    if release == WITH_PICAMERA2:
        packages += CAMERA_PACKAGES
        modules = folder / "dist-packages"
        _camera_modules(modules, folder, release.python)
        options += [
            f'--setup-hook=sh {HERE}/image/camera-sources.sh "$1"',
            f"--customize-hook=sync-in {modules} /usr/lib/python3/dist-packages",
            # As Debian's packages do at installation: later nobody may write there.
            '--customize-hook=chroot "$1" python3 -m compileall -q /usr/lib/python3/dist-packages',
        ]
    _mmdebstrap(folder, packages, *options, release.suite, str(folder / "root.tar"))


def _camera_modules(into: Path, folder: Path, python: str) -> None:
    """picamera2 and what Debian lacks of its neighbours, as Raspberry Pi OS has them in Debian's place for modules."""
    files = folder / "files"
    wheels, sources = folder / "wheels.lock", folder / "sources.lock"
    pins = {canonicalize_name(requirement.name) for requirement, _ in requirement_lines(CAMERA_LOCK)}
    wheels.write_text(pinned(CAMERA_LOCK, *(pins - set(CAMERA_SOURCES)), python=python))
    sources.write_text(pinned(CAMERA_LOCK, *CAMERA_SOURCES, python=python))
    _download_wheels(folder, files, python, wheels)
    _download_sources(folder, files, sources)
    into.mkdir()
    for wheel in files.glob("*.whl"):
        shutil.unpack_archive(wheel, into, "zip")
    for source in files.glob("*.tar.gz"):
        # Its compiled part is imported only to compress raw pictures.
        shutil.unpack_archive(source, folder / "sources", filter="data")
    for package in (folder / "sources").glob("*/src/*/__init__.py"):
        package.parent.rename(into / package.parent.name)
    shutil.copy(HERE / "image/pykms.py", into)
    shutil.rmtree(folder / "sources")


def _download_wheels(folder: Path, into: Path, python: str, *locks: Path) -> None:
    """By hash, for the device's Python and processor."""
    platforms = [f"--platform=manylinux_2_{glibc}_{MACHINE}" for glibc in (34, 28, 27, 17)]
    run_logged(
        folder, sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--require-hashes", f"--python-version={python}", "--implementation=cp",
        f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none", *platforms,
        f"--platform=manylinux2014_{MACHINE}", "--platform=any", "--dest", str(into),
        *(f"--requirement={lock}" for lock in locks),
    )  # fmt: skip


def _download_sources(folder: Path, into: Path, lock: Path) -> None:
    # pip asks a source for its name, with setuptools, which is here already.
    run_logged(
        folder, sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:",
        "--no-build-isolation", "--require-hashes", "--dest", str(into), "-r", str(lock),
    )  # fmt: skip


def _device(folder: Path, release: Release, kernel: Path, root: Path, sources: list[Path]) -> None:
    python = release.python
    wheels = folder / "wheels"
    run_lock, extras_lock = folder / "run.lock", folder / "extras.lock"
    run_lock.write_text(pinned("run.lock", python=python))
    extras_lock.write_text(pinned("dev.lock", *EXTRAS, python=python))
    _download_wheels(folder, wheels, python, run_lock, extras_lock)
    if not any(wheels.glob("lgpio-*.whl")):
        for wheel in kernel.glob("lgpio-*.whl"):
            shutil.copy(wheel, wheels)
    source_tar = folder / "source.tar"
    run_logged(
        folder, "tar", "-C", str(ROOT), "-cf", str(source_tar), *(str(path.relative_to(ROOT)) for path in sources)
    )
    run_logged(
        folder, *_as_root(), "bash", str(HERE / "image/device.sh"), str(root / "root.tar"), str(kernel / "modules.tar"),
        str(source_tar), str(wheels), str(HERE / "guest"), str(folder / "tree"), str(folder / "root.ext4"),
        str(DEVICE_BYTES // 1024) + "K",
    )  # fmt: skip
    shutil.rmtree(wheels)


def _mmdebstrap(folder: Path, packages: tuple[str, ...], *arguments: str) -> None:
    run_logged(
        folder, *_as_root(), "mmdebstrap", "--variant=minbase", *(f"--aptopt={option}" for option in APT_OPTIONS),
        f"--include={','.join(packages)}", *arguments,
    )  # fmt: skip


def layer_key(*inputs: object) -> str:
    """A short hash of values, and of names and contents of files."""
    digest = hashlib.sha256()
    for value in inputs:
        if isinstance(value, Path):
            digest.update(f"{value.relative_to(ROOT)} {hashlib.sha256(value.read_bytes()).hexdigest()}\n".encode())
        else:
            digest.update(f"{value!r}\n".encode())
    return digest.hexdigest()[:16]


def layer(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of a layer, made unless it is there whole; the least used ones go. Raises what `make` raises."""
    layers = CACHE / name
    layers.mkdir(parents=True, exist_ok=True)
    folder = layers / key
    # Another checkout may be making the same one.
    with (layers / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with step(f"Making the rig's {name}"):
                # Made under another name: a folder that has the right one is whole.
                making = layers / f"{key}.making"
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir()
                make(making)
                making.rename(folder)
        os.utime(folder)
        made = sorted((path for path in layers.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns)
        for old in made[:-KEPT_LAYERS]:
            shutil.rmtree(old)
    return folder


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say that something that takes time begins, and how long it took."""
    started_s = time.monotonic()
    print(f"{what} …", end="", flush=True)  # noqa: T201
    try:
        yield
    except BaseException:
        print(" failed", flush=True)  # noqa: T201
        raise
    print(f" {time.monotonic() - started_s:.0f} s", flush=True)  # noqa: T201


def run_logged(folder: Path, *command: str) -> None:
    """Run a program; what it says goes to the folder's log. Raises BuildError with the end of that."""
    log = folder / "log"
    with log.open("ab") as output:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        kept = FOLDER / "failed.log"
        shutil.copy(log, kept)
        last = "\n".join(kept.read_text(errors="replace").splitlines()[-25:])
        raise BuildError(f"{command[0]} failed with exit code {done.returncode}; all it said is in {kept}:\n{last}")


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo"]


def _require_host_packages() -> None:
    """Install what is missing, as tools/setup.sh does. Raises BuildError where that cannot be."""
    missing = sorted({package for tool, package in HOST_PACKAGES.items() if _which(tool) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise BuildError(f"The rig needs {', '.join(missing)}. Install them with this machine's package manager.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with step(f"Installing Debian packages {' '.join(missing)}"):
        apt = [*_as_root(), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
        run_logged(FOLDER, *apt, "update")
        run_logged(FOLDER, *apt, "install", "--yes", "--no-install-recommends", *missing)


def _which(tool: str) -> str | None:
    # mkfs is in a folder that only root has on its path.
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
