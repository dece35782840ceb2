"""The controller with its clock: events in, effects out, each with the time it came at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from agent.clock import NS_PER_MS, NS_PER_S
from agent.controller import controller
from agent.controller.effects import Effect, Play
from agent.controller.events import ButtonEdge, Event, StreamStarted, Tick
from agent.controller.signals import Cue, Indication
from agent.controller.state import ControllerState, indication
from agent.settings.schema import (
    CameraSettings,
    GestureSettings,
    PanelSettings,
    RecordingSettings,
    Settings,
)

TICK_MS = 100
SETTINGS = Settings(
    camera=CameraSettings(stall_ms=500),
    gestures=GestureSettings(hold_ms=1000, double_press_ms=400, debounce_ms=20),
    panel=PanelSettings(reminder_s=30, fault_repeat_s=5),
    recording=RecordingSettings(durable_timeout_ms=2000),
)

_E = TypeVar("_E")


@dataclass
class Drive:
    """See the module's text. `frames`: ticks say that the newest frame is of now."""

    settings: Settings = SETTINGS
    now_ns: int = 100 * NS_PER_S
    state: ControllerState = field(default_factory=ControllerState)
    frames: bool = True
    button: bool | None = None
    history: list[tuple[int, Effect]] = field(default_factory=list)
    newest_frame_ns: int | None = None

    def send(self, event: Event) -> list[Effect]:
        """One event now; its effects."""
        self.state, effects = controller.step(self.state, self.settings, event, self.now_ns)
        self.history += [(self.now_ns, effect) for effect in effects]
        return list(effects)

    def tick(self) -> list[Effect]:
        """A tick now."""
        if self.frames and self.state.streaming:
            self.newest_frame_ns = self.now_ns
        return self.send(Tick(self.newest_frame_ns if self.state.streaming else None, self.button))

    def run_ms(self, milliseconds: int, *, every_ms: int = TICK_MS) -> list[Effect]:
        """Let time pass with ticks as the daemon gives them; all effects."""
        effects: list[Effect] = []
        end_ns = self.now_ns + milliseconds * NS_PER_MS
        regular_ns = self.now_ns + every_ms * NS_PER_MS
        while True:
            due_ns = controller.next_deadline_ns(self.state, self.settings)
            next_ns = regular_ns if due_ns is None else min(regular_ns, max(due_ns, self.now_ns))
            if next_ns > end_ns:
                self.now_ns = end_ns
                return effects
            self.now_ns = next_ns
            effects += self.tick()
            regular_ns = self.now_ns + every_ms * NS_PER_MS

    def edge(self, pressed: bool) -> list[Effect]:
        """The button's contact changes now."""
        return self.send(ButtonEdge(pressed, self.now_ns))

    def press(self, milliseconds: int = 100) -> list[Effect]:
        """Press for so long."""
        effects = self.edge(True)
        effects += self.run_ms(milliseconds)
        return effects + self.edge(False)

    def double_press(self) -> list[Effect]:
        """A double press; the effects of the step that recognised it are those of the second press edge."""
        self.press()
        self.run_ms(100)
        effects = self.edge(True)
        self.run_ms(100)
        self.edge(False)
        return effects

    def hold(self) -> list[Effect]:
        """Hold until it is recognised, and let go."""
        effects = self.edge(True) + self.run_ms(self.settings.gestures.hold_ms)
        self.edge(False)
        self.run_ms(100)
        return effects

    def shows(self, shown: Indication) -> bool:
        """Whether the lights show this."""
        return self.state.shown is shown

    def cues(self, effects: list[Effect]) -> list[Cue]:
        """The sounds among effects."""
        return [effect.cue for effect in effects if isinstance(effect, Play)]

    def truth(self) -> Indication:
        """What the lights should show now."""
        return indication(self.state, self.settings, self.now_ns)


def of(effects: list[Effect], kind: type[_E]) -> list[_E]:
    """The effects of a kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def ready() -> Drive:
    """A controller with a stream, showing READY."""
    drive = Drive()
    drive.tick()
    drive.send(StreamStarted())
    drive.run_ms(1000)
    return drive
