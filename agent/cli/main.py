"""The `bodycam` command: which subcommands there are and what they take. What they do is in a file each.

argparse and not a command-line library: what the parser needs stays resident in the daemon, and such libraries cost it
10 to 20 MB. Each command imports its own part when it runs.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from agent import __version__
from agent.cli.output import say
from agent.errors import BodycamError
from agent.settings.load import LoadedSettings, load_settings

EXIT_CODES = """
Exit codes: 0 done · 1 evidence does not verify, or a check failed · 2 wrong usage · 66 no such input ·
69 a device or the daemon is not available · 70 an encoder or this software failed · 74 storage failed ·
75 the vault is in use · 77 the key is missing or does not fit · 78 the configuration is wrong · 130 interrupted.
"""

DESCRIPTION = "The brain of a body-worn camera: pre-event buffer, crash-safe recording, evidence a stranger can check."
DEFAULT_CONFIG = Path("/etc/bodycam/bodycam.toml")

Command = Callable[[argparse.Namespace], int]


def build_parser() -> argparse.ArgumentParser:
    """Every subcommand and option."""
    parser = argparse.ArgumentParser(
        prog="bodycam",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, command: Command, text: str, more: str = "", *, settings: bool = True
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=text, description=f"{text} {more}".strip(), epilog=EXIT_CODES, allow_abbrev=False
        )
        made.set_defaults(command=command)
        if settings:
            _add_settings_options(made)
        return made

    run = add("run", _run, "Run the camera in the foreground, until SIGTERM or Ctrl-C.")
    run.add_argument("--journald", action="store_true", help="begin log lines with a priority, as journald reads it")

    demo = add("demo", _demo, "Show all of it here: press the (virtual) pin, record, verify.", settings=False)
    demo.add_argument(
        "--seconds",
        type=_seconds,
        default=8,
        help="how long to record, from the press that starts to the hold that stops",
    )
    demo.add_argument("--source", default="", help="a video file, /dev/videoN, or synthetic; real footage by default")
    demo.add_argument("--folder", type=Path, default=Path("build/demo"), help="where its files go; made anew each time")

    status = add("status", _status, "Ask the running camera how it is.")
    _add_json_option(status)

    press = add(
        "press",
        _press,
        "Press the record button of a running bench camera.",
        "double starts, single marks, hold stops. Other cameras have a real button.",
    )
    press.add_argument("gesture", choices=("double", "single", "hold"))
    press.add_argument(
        "seconds", nargs="?", type=_hold, metavar="SECONDS", help="with hold: how long; as long as a stop takes if left"
    )

    verify = add(
        "verify",
        _verify,
        "Check that evidence is complete, unchanged and from that camera.",
        "It needs nothing but the files.",
        settings=False,
    )
    verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="vaults, evidence packages, or video files")
    verify.add_argument(
        "--root", type=Path, metavar="ROOT.pem", help="the CA you trust; without it the origin stays open"
    )
    _add_identity_option(verify, "look into encrypted segments, too")
    verify.add_argument(
        "--video",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read the signatures in the video of vaults and packages, too; --no-video is faster",
    )
    verify.add_argument(
        "--tsa-root", type=Path, metavar="TSA.pem", help="the time authority's root; without it times stay open"
    )
    verify.add_argument(
        "--all", action="store_true", dest="everything", help="list every finding, also those that follow from another"
    )
    _add_json_option(verify)

    export = add("export", _export, "Join a recording into one MP4 without re-encoding anything.")
    export.add_argument("recording", help="id of a recording, the beginning of one, or latest")
    export.add_argument("--output", "-o", type=Path, metavar="FILE.mp4", required=True, help="the file to make")
    export.add_argument(
        "--from", type=Path, dest="vault", metavar="FOLDER", help="a vault or package; the configured vault if left"
    )
    _add_identity_option(export, "the key that opens encrypted recordings")

    enroll = add("enroll", _enroll, "Give this camera its key and certificate, or change whom it encrypts to.")
    enroll.add_argument("--csr", type=Path, metavar="FILE", help="make a key and a request for your CA")
    enroll.add_argument("--install", type=Path, metavar="CHAIN.pem", help="install what your CA issued")
    enroll.add_argument("--root", type=Path, metavar="ROOT.pem", help="with --install: the CA's root")
    enroll.add_argument("--bench", action="store_true", help="make a CA of its own, to try things out")
    enroll.add_argument(
        "--recipients",
        action=argparse.BooleanOptionalAction,
        help="journal that evidence is encrypted to the configuration's keys from now on; with --no-, to none",
    )
    enroll.add_argument("--renew", action="store_true", help="with --csr: another certificate for the same key")
    enroll.add_argument("--rotate", action="store_true", help="with --csr: a new key, and a certificate for it")

    doctor = add(
        "doctor",
        _doctor,
        "Check every part of this camera and say what to do.",
        "Camera, encoder, microphone, GPIO, serial line, storage, clock and key.",
    )
    _add_json_option(doctor)
    doctor.add_argument(
        "--record", action="store_true", help="have the running daemon journal the results, for the support sheet"
    )

    offload = add(
        "offload",
        _offload,
        "Copy finished recordings to a store, and hand in its receipts.",
        "Each file is read back and compared. Nothing is deleted.",
    )
    offload.add_argument("--to", type=Path, metavar="DIR", required=True, help="the folder store")
    offload.add_argument("--once", action="store_true", help="offload what there is, then end")

    scrub = add(
        "scrub",
        _scrub,
        "Read finished recordings again from the card, slowly, and report what is no longer as it was signed.",
        "It waits while the camera records, and the camera journals what it finds. Nothing is changed.",
    )
    scrub.add_argument(
        "--rate", type=_rate, default=4.0, metavar="MB", help="megabytes a second, 0.1 to 1000; 4 if left"
    )
    scrub.add_argument(
        "--state", type=Path, metavar="FILE", help="keep in this file how far it came, and go on from there"
    )

    timestamp = add(
        "timestamp",
        _timestamp,
        "Have the running camera's journal stamped by a time authority.",
        "At once, and then every few minutes.",
    )
    timestamp.add_argument("--authority", metavar="URL", help="the RFC 3161 authority; time.authority_url if left")
    timestamp.add_argument(
        "--every", type=_interval, metavar="SECONDS", help="10 to 86400; time.timestamp_interval_s if left"
    )
    timestamp.add_argument("--once", action="store_true", help="take one, then end")

    add("version", _version, "Print the version.", settings=False)
    return parser


def _add_settings_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", "-c", type=Path, metavar="FILE", help=f"configuration file; {DEFAULT_CONFIG} if it is there"
    )
    parser.add_argument("--profile", "-p", help="start from a profile: pi-zero-2w, pi-4-cm4, pi-5 or bench")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        type=_override,
        metavar="KEY=VALUE",
        help="override one setting, e.g. --set camera.fps=15; text needs no quotes; repeatable",
    )


def _add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON for programs")


def _add_identity_option(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--identity", type=Path, metavar="KEY.txt", help=f"{text}: a file from age-keygen")


def _override(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key.strip(), value.strip()


def _seconds(text: str) -> int:
    return _whole(text, 5, 600)


def _hold(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to 60")
    return seconds


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0.1 <= rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of megabytes a second from 0.1 to 1000")
    return rate


def _interval(text: str) -> int:
    return _whole(text, 10, 86_400)


def _whole(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from {low} to {high}")
    return int(text)


def _load(arguments: argparse.Namespace) -> LoadedSettings:
    config: Path | None = arguments.config
    if config is None and arguments.profile is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    return load_settings(config, profile=arguments.profile, overrides=dict(arguments.overrides))


def _run(arguments: argparse.Namespace) -> int:
    from agent.daemon.logs import configure_logs
    from agent.daemon.run import run_daemon

    settings = _load(arguments)
    with closing(configure_logs(journald=arguments.journald)):
        code = run_daemon(settings)
    # A thread that is still in a driver or a signer cannot be ended. If the interpreter were taken down around it, it
    # would be unwound through frames of C++ or Rust, which abort then: SIGABRT, though all was done and sealed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _demo(arguments: argparse.Namespace) -> int:
    from agent.cli.demo import demo

    return demo(seconds=arguments.seconds, source=arguments.source, folder=arguments.folder)


def _status(arguments: argparse.Namespace) -> int:
    from agent.cli.status import status

    return status(_load(arguments).settings, as_json=arguments.as_json)


def _press(arguments: argparse.Namespace) -> int:
    from agent.cli.press import press

    return press(_load(arguments).settings, arguments.gesture, arguments.seconds)


def _verify(arguments: argparse.Namespace) -> int:
    from agent.cli.verify import verify

    return verify(
        arguments.paths,
        root=arguments.root,
        tsa_root=arguments.tsa_root,
        identity=arguments.identity,
        video=arguments.video,
        everything=arguments.everything,
        as_json=arguments.as_json,
    )


def _export(arguments: argparse.Namespace) -> int:
    from agent.cli.export import export

    vault: Path | None = arguments.vault
    folder = _load(arguments).settings.vault.path if vault is None else vault
    return export(folder, arguments.recording, arguments.output, identity=arguments.identity)


def _enroll(arguments: argparse.Namespace) -> int:
    from agent.cli.enroll import enroll, enroll_recipients

    loaded = _load(arguments)
    if arguments.recipients is not None:
        identity = (arguments.csr, arguments.install, arguments.root, arguments.bench or None)
        return enroll_recipients(loaded, wanted=arguments.recipients, alone=not any(identity))
    return enroll(
        loaded.settings,
        csr=arguments.csr,
        install=arguments.install,
        root=arguments.root,
        bench=arguments.bench,
        renew=arguments.renew,
        rotate=arguments.rotate,
    )


def _doctor(arguments: argparse.Namespace) -> int:
    from agent.cli.doctor import doctor

    return doctor(_load(arguments).settings, as_json=arguments.as_json, record=arguments.record)


def _offload(arguments: argparse.Namespace) -> int:
    from agent.cli.offload import offload

    return offload(_load(arguments).settings, to=arguments.to, once=arguments.once)


def _scrub(arguments: argparse.Namespace) -> int:
    from agent.cli.scrub import scrub

    return scrub(_load(arguments).settings, mb_per_s=arguments.rate, state=arguments.state)


def _timestamp(arguments: argparse.Namespace) -> int:
    from agent.cli.timestamp import timestamp

    settings = _load(arguments).settings
    return timestamp(settings, authority=arguments.authority, every_s=arguments.every, once=arguments.once)


def _version(arguments: argparse.Namespace) -> int:
    del arguments
    say(__version__)
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: errors meant for people become one paragraph on standard error and their exit code."""
    arguments = build_parser().parse_args(argv if argv is not None else sys.argv[1:] or ["--help"])
    try:
        command: Command = arguments.command
        raise SystemExit(command(arguments))
    except BodycamError as error:
        sys.stderr.write(f"bodycam: {error}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
