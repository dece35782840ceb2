"""The pages and the check that lie in every evidence package. No times in them: a package is the same each time."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from agent.verify.evidence import PACKAGE_VERSION, README_NAME, SCRIPT_NAME, VERIFY_NAME


@cache
def _kit_file(name: str) -> bytes:
    return files("agent.verify").joinpath("kit", name).read_bytes()


def _filled(name: str, **values: str) -> bytes:
    text = _kit_file(name).decode("ascii")
    for key, value in values.items():
        text = text.replace("{" + key + "}", value)
    return text.encode("ascii")


def package_text(device_name: str, recording_id: str) -> bytes:
    """PACKAGE.txt: what kind of thing this is, in which version. device_name: as in the package's folder."""
    return f"Evidence-Package: {PACKAGE_VERSION}\nDevice: {device_name}\nRecording: {recording_id}\n".encode()


_MEDIA = "  init.mp4, 000001.m4s ...  the video and sound, as the camera wrote them\n"
_PLAY = (
    "  cat init.mp4 0*.m4s > ../recording.mp4          then open that file with any player, or: ffplay ../recording.mp4"
)
_ENCRYPTED_MEDIA = (
    "  init.mp4, 000001.m4s.age ...  the video and sound, encrypted to the evidence system's key (age-encryption.org)\n"
)
_ENCRYPTED_PLAY = """\
With the evidence system's key in a file KEY.txt, beside this folder:
  (cat init.mp4; for f in 0*.m4s.age; do age -d -i ../KEY.txt "$f"; done) > ../recording.mp4
then open that file with any player, or: ffplay ../recording.mp4. Without the key everything below can be checked but
what is in the video. "unexpected EOF" or "failed to decrypt" of a segment whose record says "torn" or "recovered" is
what a write or power failure leaves; what opens in front of it is good."""


def readme(device_name: str, recording_id: str, first_journal: str, *, encrypted: bool = False) -> bytes:
    """README.txt: what is here and how to play it."""
    return _filled(
        README_NAME,
        device_id=device_name,
        recording_id=recording_id,
        first_journal=first_journal,
        media=_ENCRYPTED_MEDIA if encrypted else _MEDIA,
        play=_ENCRYPTED_PLAY if encrypted else _PLAY,
    )


def verify_text(device_name: str, recording_id: str) -> bytes:
    """VERIFY.txt: how to check it, in plain words."""
    return _filled(VERIFY_NAME, device_id=device_name, recording_id=recording_id)


def verify_script() -> bytes:
    """verify.sh, the same in all packages that this version makes."""
    return _kit_file(SCRIPT_NAME)
