"""The `bodycam` command: which subcommands there are and what they take. What they do is in a file each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agent import __version__
from agent.errors import BodycamError
from agent.settings.load import LoadedSettings, load_settings

EXIT_CODES = """
Exit codes: 0 done · 1 evidence does not verify, or a check failed · 2 wrong usage · 66 no such input ·
69 a device or the daemon is not available · 70 an encoder or this software failed · 74 storage failed ·
75 the vault is in use · 77 the key is missing or does not fit · 78 the configuration is wrong · 130 interrupted.
"""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The brain of a body-worn camera: pre-event buffer, crash-safe recording, evidence a stranger can check.",
    epilog=EXIT_CODES,
    rich_markup_mode=None,
)

DEFAULT_CONFIG = Path("/etc/bodycam/bodycam.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help=f"Configuration file; {DEFAULT_CONFIG} if it is there."),
]
ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", "-p", help="Start from a profile: pi-zero-2w, pi-4-cm4, pi-5 or bench."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. --set camera.fps=15. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def load(config: Path | None, profile: str | None, overrides: list[str] | None) -> LoadedSettings:
    """The settings a command works with. Raises ConfigError."""
    pairs: dict[str, str] = {}
    for text in overrides or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE.", param_hint="--set")
        pairs[key.strip()] = value.strip()
    if config is None and profile is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    return load_settings(config, profile=profile, overrides=pairs)


@app.command()
def run(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    overrides: SetOption = None,
    journald: Annotated[bool, typer.Option(help="Begin log lines with a priority, as journald reads it.")] = False,
) -> None:
    """Run the camera in the foreground, until SIGTERM or Ctrl-C."""
    from agent.daemon.logs import configure_logs
    from agent.daemon.run import run_daemon

    configure_logs(journald=journald)
    raise typer.Exit(run_daemon(load(config, profile, overrides)))


@app.command()
def demo(
    seconds: Annotated[
        int, typer.Option(help="How long to record, from the press that starts to the hold that stops.", min=5, max=600)
    ] = 8,
    source: Annotated[
        str, typer.Option(help="A video file, /dev/videoN, or `synthetic`; real footage with sound by default.")
    ] = "",
    folder: Annotated[Path, typer.Option(help="Where the demonstration's files go; made anew each time.")] = Path(
        "build/demo"
    ),
) -> None:
    """Show all of it here: press the (virtual) pin, record, verify."""
    from agent.cli.demo import demo as demonstrate

    raise typer.Exit(demonstrate(seconds=seconds, source=source, folder=folder))


@app.command()
def status(
    config: ConfigOption = None, profile: ProfileOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Ask the running camera how it is."""
    from agent.cli.status import status as show_status

    raise typer.Exit(show_status(load(config, profile, overrides).settings, as_json=as_json))


@app.command()
def verify(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Vaults or evidence packages.")],
    root: Annotated[
        Path | None, typer.Option(metavar="ROOT.pem", help="The CA you trust; without it the origin stays open.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that evidence is complete, unchanged and from that camera.

    It needs nothing but the files.
    """
    from agent.cli.verify import verify as verify_paths

    raise typer.Exit(verify_paths(paths, root=root, as_json=as_json))


@app.command()
def export(
    recording: Annotated[str, typer.Argument(help="Id of a recording, the beginning of one, or `latest`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.mp4", help="The file to make.")],
    vault: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="A vault or package; the configured vault if left.")
    ] = None,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    overrides: SetOption = None,
) -> None:
    """Join a recording into one MP4 without re-encoding anything."""
    from agent.cli.export import export as export_recording

    folder = vault if vault is not None else load(config, profile, overrides).settings.vault.path
    raise typer.Exit(export_recording(folder, recording, output))


@app.command()
def enroll(
    csr: Annotated[Path | None, typer.Option(metavar="FILE", help="Make a key and a request for your CA.")] = None,
    install: Annotated[Path | None, typer.Option(metavar="CHAIN.pem", help="Install what your CA issued.")] = None,
    root: Annotated[Path | None, typer.Option(metavar="ROOT.pem", help="With --install: the CA's root.")] = None,
    bench: Annotated[bool, typer.Option("--bench", help="Make a CA of its own, to try things out.")] = False,
    recipients: Annotated[
        bool | None,
        typer.Option(
            "--recipients/--no-recipients", help="Journal that evidence is encrypted as configured from now on, or not."
        ),
    ] = None,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    overrides: SetOption = None,
) -> None:
    """Give this camera its key and certificate, or change whom it encrypts to."""
    from agent.cli.enroll import enroll as enroll_device
    from agent.cli.enroll import enroll_recipients

    loaded = load(config, profile, overrides)
    if recipients is not None:
        if bench or csr is not None or install is not None or root is not None:
            raise typer.BadParameter("It stands alone.", param_hint="--recipients")
        raise typer.Exit(enroll_recipients(loaded, wanted=recipients))
    raise typer.Exit(enroll_device(loaded.settings, csr=csr, install=install, root=root, bench=bench))


@app.command()
def doctor(
    config: ConfigOption = None, profile: ProfileOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Check every part of this camera and say what to do.

    Camera, encoder, microphone, GPIO, serial line, storage, clock and key.
    """
    from agent.cli.doctor import doctor as examine

    raise typer.Exit(examine(load(config, profile, overrides).settings, as_json=as_json))


@app.command()
def offload(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder store.")],
    once: Annotated[bool, typer.Option("--once", help="Offload what there is, then end.")] = False,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    overrides: SetOption = None,
) -> None:
    """Copy finished recordings to a store, and hand in its receipts.

    Each file is read back and compared. Nothing is deleted.
    """
    from agent.cli.offload import offload as offload_recordings

    raise typer.Exit(offload_recordings(load(config, profile, overrides).settings, to=to, once=once))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point: errors meant for people become one paragraph on standard error and their exit code."""
    try:
        app()
    except BodycamError as error:
        sys.stderr.write(f"bodycam: {error}\n")
        raise SystemExit(error.exit_code) from None
