"""Everything that can happen to the controller. Times are boot-clock nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed. newest_frame_ns: capture time of the newest frame in the ring, None while there is no stream.

    button_pressed: the contact as the pin reads now, None without a button: the kernel drops edges in a storm.
    """

    newest_frame_ns: int | None
    button_pressed: bool | None = None


@dataclass(frozen=True, slots=True)
class ButtonEdge:
    """The record button's contact changed, bounce included."""

    pressed: bool
    edge_ns: int


@dataclass(frozen=True, slots=True)
class InputActivated:
    """A trigger input (holster, door, radio) became active."""

    pin: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """The first frame of a camera session that can be decoded reached the ring."""


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The camera session is over; its ring holds all there is. A new one is being tried."""

    message: str
    last_frame_ns: int | None


@dataclass(frozen=True, slots=True)
class FragmentDurable:
    """A fragment of recording `number` and its checkpoint are on flash."""

    number: int


@dataclass(frozen=True, slots=True)
class RecordingClosed:
    """The recording is sealed."""

    number: int


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """Nothing can be written at present; the recorder keeps trying."""

    message: str


@dataclass(frozen=True, slots=True)
class StorageRestored:
    """Writing works again."""


@dataclass(frozen=True, slots=True)
class StorageMeasured:
    """What is free for media, and what a recording writes at present (None: nothing runs that could be measured)."""

    spare_bytes: int
    bytes_per_s: int | None


@dataclass(frozen=True, slots=True)
class CardForgot:
    """The card does not have records that it had confirmed to an earlier run, as was remembered outside of it."""

    message: str


@dataclass(frozen=True, slots=True)
class MicrophoneFailed:
    """No sound comes; video goes on without it."""

    message: str


@dataclass(frozen=True, slots=True)
class MicrophoneRestored:
    """Sound comes again."""


@dataclass(frozen=True, slots=True)
class StreamUnsigned:
    """GOPs go into the ring without a signature in the video; the journal is signed apart from that."""

    message: str


@dataclass(frozen=True, slots=True)
class StreamSigned:
    """The video is signed in itself again. unsigned_gops: how many GOPs were not, since the fault began."""

    unsigned_gops: int


@dataclass(frozen=True, slots=True)
class SoundMissing:
    """The microphone gave nothing for a while; silence stands in its place, from one boot time to the other."""

    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class PictureMeasured:
    """One look at the picture: `agent.capture.thumbnail.Figures`, which see."""

    mean: float
    detail: float
    noise: float
    white: float
    still: bool | None


@dataclass(frozen=True, slots=True)
class CameraHung:
    """A call of camera or encoder has not come back, and no error can reach it. Only a new process helps."""

    message: str


@dataclass(frozen=True, slots=True)
class ResumeWanted:
    """Start-up recovered a recording that was running moments ago; a linked one is to go on."""

    linked_from: str


@dataclass(frozen=True, slots=True)
class TerminationAsked:
    """SIGTERM or SIGINT: finish, seal, go."""


Event = (
    Tick
    | ButtonEdge
    | InputActivated
    | StreamStarted
    | StreamEnded
    | FragmentDurable
    | RecordingClosed
    | StorageFailed
    | StorageRestored
    | StorageMeasured
    | CardForgot
    | MicrophoneFailed
    | MicrophoneRestored
    | StreamUnsigned
    | StreamSigned
    | SoundMissing
    | PictureMeasured
    | CameraHung
    | ResumeWanted
    | TerminationAsked
)
