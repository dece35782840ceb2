"""Whole parts of other recordings and of other cameras in the place of this one's."""

from __future__ import annotations

import shutil

from tests.tamper.kind import Forger, Harm, Kind

SECTION = "Replays"
OTHERS = {
    "another recording of the same camera": "sibling",
    "the same recording number of another camera": "other camera",
    "a camera of that name under another CA": "other CA",
}


def taken(base: str, *names: str) -> Harm:
    """Files and folders of another package in the place of one's own."""

    def harm(forger: Forger) -> None:
        source = forger.bases.packages[base]
        for name in names:
            for path in forger.package.glob(name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in source.glob(name):
                if path.is_dir():
                    shutil.copytree(path, forger.path(path.name))
                else:
                    shutil.copy(path, forger.path(str(path.relative_to(source))))

    return harm


def id_changed(forger: Forger) -> None:
    """PACKAGE.txt says another recording, and nothing else does."""
    theirs = forger.bases.packages["sibling"].name
    forger.write("PACKAGE.txt", forger.read("PACKAGE.txt").replace(forger.package.name.encode(), theirs.encode()))


def device_changed(forger: Forger) -> None:
    forger.write("PACKAGE.txt", forger.read("PACKAGE.txt").replace(b"CAM-TEST", b"CAM-0002"))


def number_changed_in_the_log(forger: Forger) -> None:
    """Another recording passed off as this one: its id is written over in every record, with the camera's key."""
    taken("sibling", "0*", "init.mp4", "journal", "recording.json")(forger)
    log = forger.log()
    for line in log.lines:
        if "recording_id" in line.fields:
            line.fields["recording_id"] = forger.package.name
    log.resign(forger.bases.camera.record_signer)


def newer_run_in_front(forger: Forger) -> None:
    """The journal file of a later run under the name of this one's."""
    theirs = forger.steal("sibling", "journal/000002.journal")
    forger.write("journal/000001.journal", theirs)


def runs_exchanged(forger: Forger) -> None:
    one, two = sorted(forger.path("journal").iterdir())
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def later_run_added(forger: Forger) -> None:
    """True records of the same camera, behind this one's: the forger adds nothing false, and they do not join up."""
    forger.write("journal/000002.journal", forger.steal("sibling", "journal/000002.journal"))


KINDS = [
    *(Kind(SECTION, f"the {what} of {who}", "plain", taken(base, *names))
      for who, base in OTHERS.items()
      for what, names in (
          ("video", ("0*", "init.mp4")), ("log", ("journal",)), ("video and log", ("0*", "init.mp4", "journal")),
          ("video, log and certificates", ("0*", "init.mp4", "journal", "device")),
      )),
    Kind(SECTION, "PACKAGE.txt names another recording", "plain", id_changed),
    Kind(SECTION, "PACKAGE.txt names another camera", "plain", device_changed),
    Kind(SECTION, "another recording under this one's number, with the camera's key", "plain",
         number_changed_in_the_log),
    Kind(SECTION, "the log of a later run under the name of this one's", "plain", newer_run_in_front),
    Kind(SECTION, "the log of a later run added", "plain", later_run_added),
    Kind(SECTION, "the logs of two runs exchanged", "power cut", runs_exchanged),
    Kind(SECTION, "the whole package of another camera of the department", "plain",
         taken("other camera", "*")),
]  # fmt: skip
