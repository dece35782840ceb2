"""Builds the virtual device from nothing: `python -m tests.rig build`.

Its layers (see layers.py): `kernel` (with what Debian lacks), `root` (Debian), `device` (bodycam installed in it), and
in warm.py `warm` and `hot` (booted once, its memory saved).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.rig.layers import (
    FOLDER,
    HERE,
    ROOT,
    as_root,
    layer,
    layer_key,
    mmdebstrap,
    require_host_packages,
    run_logged,
)
from tests.rig.pins import pinned, requirement_lines, wheels_for

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
    "cdc-acm", "configfs", "ext4", "f2fs", "gpio-sim", "sd_mod", "snd-aloop", "softdog", "usb-storage", "uvcvideo",
    "vfat", "vhci-hcd", "virtio_blk", "virtio_console", "virtio_net", "virtio_pci", "virtio_rng", "vivid",
    "xhci-pci",
)  # fmt: skip

EXTRAS = ("asn1crypto", "opencv-python-headless", "pyrage", "python-pkcs11")
"""Of the development lock: what `make install` takes from it."""

SOURCES = (
    "LICENSE", "Makefile", "README.md", "agent", "config", "docs", "firmware_bridge", "pyproject.toml", "requirements",
    "systemd", "tools",
)  # fmt: skip
"""What of the checkout the device is installed from."""

LEFT_OUT_OF_ROOT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
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
    require_host_packages(HOST_PACKAGES)
    FOLDER.mkdir(parents=True, exist_ok=True)
    suite = release.suite
    kernel_key = layer_key(KERNEL_OF, BUILDER_PACKAGES, MODULES, HERE / "image/kernel.sh", HERE / "image/init")
    root_key = _root_key(release)
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(layer, "kernel", kernel_key, _kernel)
        root = layer(f"root-{suite}", root_key, lambda folder: _root(folder, release))
        kernel = made.result()
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


def _kernel(folder: Path) -> None:
    wheels = folder / "wheels"
    source = folder / "lgpio.lock"
    # The lock pins the source package, too; its marker says for which Pythons there are wheels.
    source.write_text(pinned("run.lock", "lgpio", python="3.12"))
    _download_sources(folder, wheels, source)
    (folder / "out").mkdir()
    mmdebstrap(
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
    mmdebstrap(folder, packages, *options, release.suite, str(folder / "root.tar"))


def _camera_modules(into: Path, folder: Path, python: str) -> None:
    """picamera2 and what Debian lacks of its neighbours, as Raspberry Pi OS has them in Debian's place for modules."""
    files = folder / "files"
    wheels, sources = folder / "wheels.lock", folder / "sources.lock"
    pins = {canonicalize_name(requirement.name) for requirement, _ in requirement_lines(CAMERA_LOCK)}
    wheels.write_text(pinned(CAMERA_LOCK, *(pins - set(CAMERA_SOURCES)), python=python))
    sources.write_text(pinned(CAMERA_LOCK, *CAMERA_SOURCES, python=python))
    run_logged(
        folder, sys.executable, "-m", "pip", "download", "--quiet", *wheels_for(python, MACHINE),
        "--dest", str(files), "-r", str(wheels),
    )  # fmt: skip
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
    run_logged(
        folder, sys.executable, "-m", "pip", "download", "--quiet", *wheels_for(python, MACHINE),
        "--dest", str(wheels), "-r", str(run_lock), "-r", str(extras_lock),
    )  # fmt: skip
    if not any(wheels.glob("lgpio-*.whl")):
        for wheel in kernel.glob("lgpio-*.whl"):
            shutil.copy(wheel, wheels)
    source_tar = folder / "source.tar"
    run_logged(
        folder, "tar", "-C", str(ROOT), "-cf", str(source_tar), *(str(path.relative_to(ROOT)) for path in sources)
    )
    run_logged(
        folder, *as_root(), "bash", str(HERE / "image/device.sh"), str(root / "root.tar"), str(kernel / "modules.tar"),
        str(source_tar), str(wheels), str(HERE / "guest"), str(folder / "tree"), str(folder / "root.ext4"),
        str(DEVICE_BYTES // 1024) + "K",
    )  # fmt: skip
    shutil.rmtree(wheels)
