"""The machine around the agent: enough memory, and no way for the pre-event buffer to reach a disk."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.check import Check, fail, ok, warn
from agent.settings.schema import Settings

# What the daemon may take beside the packets in its buffer (1080p, libx264, audio).
AGENT_BYTES = 120_000_000


@dataclass(frozen=True, slots=True)
class HostFacts:
    """total_bytes, available_bytes: /proc/meminfo. swaps: devices and files that are swapped to.

    core_limit_bytes: RLIMIT_CORE of this process, None if unlimited; core_pattern: where the kernel puts dumps.
    """

    total_bytes: int
    available_bytes: int
    swaps: tuple[str, ...]
    core_limit_bytes: int | None
    core_pattern: str


def probe_host(proc: Path = Path("/proc")) -> HostFacts:
    """From procfs (proc(5), core(5)). Raises OSError, and KeyError or ValueError for a procfs that is not Linux's."""
    lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    memory = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    swaps = (proc / "swaps").read_text(encoding="utf-8").splitlines()[1:]
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    return HostFacts(
        total_bytes=memory["MemTotal"],
        available_bytes=memory["MemAvailable"],
        swaps=tuple(line.split()[0] for line in swaps if line.strip()),
        core_limit_bytes=None if soft == resource.RLIM_INFINITY else soft,
        core_pattern=(proc / "sys/kernel/core_pattern").read_text(encoding="utf-8").strip(),
    )


def judge_host(facts: HostFacts, settings: Settings, *, daemon_runs: bool) -> list[Check]:
    """Memory, swap and core dumps, one check each."""
    return [_judge_memory(facts, settings, daemon_runs=daemon_runs), _judge_swap(facts), _judge_core(facts)]


def _judge_memory(facts: HostFacts, settings: Settings, *, daemon_runs: bool) -> Check:
    needed_bytes = AGENT_BYTES + settings.buffer.max_bytes
    said = (
        f"{facts.available_bytes / 1e6:.0f} of {facts.total_bytes / 1e6:.0f} MB are available; "
        f"the agent may take {needed_bytes / 1e6:.0f} MB"
    )
    advice = "Lower buffer.max_bytes (the loader says what pre_event_s needs), or stop what else is running."
    if facts.total_bytes < needed_bytes:
        return fail("memory", f"{said}.", advice)
    # What a running daemon has taken is not available to a second look.
    if facts.available_bytes < needed_bytes and not daemon_runs:
        return warn("memory", f"{said}.", advice)
    return ok("memory", f"{said}.")


def _judge_swap(facts: HostFacts) -> Check:
    if facts.swaps:
        return warn(
            "swap",
            f"Memory is swapped to {', '.join(facts.swaps)}, so the pre-event buffer can reach a disk.",
            "Switch swap off (`swapoff --all`, and in the system's configuration); zram too may write back.",
        )
    return ok("swap", "No swap is active.")


def _judge_core(facts: HostFacts) -> Check:
    # core(5): with a pipe as pattern the limit is not applied, so a handler may store the whole buffer.
    piped = facts.core_pattern.startswith("|")
    if piped and Path(facts.core_pattern[1:].split()[0] if facts.core_pattern[1:].split() else "").name != "false":
        return warn(
            "core dumps",
            f"Core dumps go to {facts.core_pattern.split()[0][1:] or 'a program'}, whatever the limits: a crash could "
            "put the pre-event buffer on disk.",
            "Set kernel.core_pattern to |/bin/false with sysctl.",
        )
    if not piped and facts.core_limit_bytes != 0:
        size = "unlimited" if facts.core_limit_bytes is None else f"{facts.core_limit_bytes} bytes"
        return warn(
            "core dumps",
            f"Core dumps are allowed here ({size}): a crash could put the pre-event buffer on disk.",
            "Run the daemon with LimitCORE=0 (systemd) or `ulimit -c 0`.",
        )
    return ok("core dumps", "No core dumps are written.")


def check_host(settings: Settings, *, daemon_runs: bool) -> list[Check]:
    """The machine's checks."""
    try:
        facts = probe_host()
    except (OSError, KeyError, ValueError, IndexError) as error:
        return [warn("memory", f"/proc cannot be read ({error}).", "Mount /proc where the doctor runs.")]
    return judge_host(facts, settings, daemon_runs=daemon_runs)
