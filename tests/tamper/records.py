"""Records edited, invented, taken out, doubled and moved, by forgers with and without keys."""

from __future__ import annotations

from collections.abc import Callable

from tests.tamper.kind import Forger, Harm, Kind
from tests.tamper.log import Log

SECTION = "Records"
Action = Callable[[Log], object]


def edited(log: Log) -> None:
    log.first("trigger")["source"] = "control"


def invented(log: Log) -> None:
    line = log.lines[log.at("marker")].copy()
    line.fields["at_boottime_ns"] += 1
    log.lines.insert(log.at("marker") + 1, line)


def taken_out(log: Log) -> None:
    del log.lines[log.at("marker")]


def checkpoint_taken_out(log: Log) -> None:
    del log.lines[log.at("checkpoint", 1)]


def doubled(log: Log) -> None:
    log.lines.insert(log.at("marker") + 1, log.lines[log.at("marker")].copy())


def exchanged(log: Log) -> None:
    one, two = log.at("checkpoint", 0), log.at("checkpoint", 1)
    log.lines[one], log.lines[two] = log.lines[two], log.lines[one]


def head_cut(log: Log) -> None:
    del log.lines[0]


def middle_cut(log: Log) -> None:
    del log.lines[log.at("checkpoint", 1) : log.at("checkpoint", 2) + 1]


def tail_cut(log: Log) -> None:
    del log.lines[log.at("stop") :]


ACTIONS: dict[str, Action] = {
    "a record edited": edited,
    "a record invented": invented,
    "a marker taken out": taken_out,
    "a checkpoint taken out": checkpoint_taken_out,
    "a record doubled": doubled,
    "two records exchanged": exchanged,
    "the chain's head cut off": head_cut,
    "the chain's middle cut out": middle_cut,
    "the chain's tail cut off": tail_cut,
}
FORGERS: dict[str, Callable[[Log, Forger], object]] = {
    "nothing repaired": lambda log, _: log.save(),
    "chain re-hashed": lambda log, _: log.rehash(),
    "chain re-hashed and unsigned": lambda log, _: log.unsign(),
    "re-signed with another camera's key": lambda log, forger: log.resign(forger.bases.other.record_signer),
    "re-signed with the camera's own key": lambda log, forger: log.resign(forger.bases.camera.record_signer),
}


def harm(action: Action, forger_does: Callable[[Log, Forger], object]) -> Harm:
    """The action, then what the forger can do about the chain."""

    def both(forger: Forger) -> None:
        log = forger.log()
        action(log)
        forger_does(log, forger)

    return both


KINDS = [
    Kind(SECTION, f"{action}, {forger}", "plain", harm(do, repair))
    for action, do in ACTIONS.items()
    for forger, repair in FORGERS.items()
]
