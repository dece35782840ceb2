"""`bodycam demo`: what a newcomer sees first."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from agent.clock import SystemClock
from agent.demo.demonstration import give_demonstration
from agent.demo.story import Story


def demo(*, seconds: int, source: str, folder: Path) -> int:
    """Show everything once on the bench profile; returns 0, or 130 after Ctrl-C.

    seconds: how long to record. source: see `agent.demo.source`; empty is the footage that set-up fetched. folder: gets
    all files, made anew. Raises DemoError for any step that is not as it should be, CameraError for the source.
    """
    clock = SystemClock()
    return give_demonstration(
        seconds=seconds,
        source=source,
        folder=folder,
        story=lambda: Story(Console(highlight=False, emoji=False), clock),
        clock=clock,
    )
