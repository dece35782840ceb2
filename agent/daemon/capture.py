"""The capture thread: camera to encoder to signer to ring, one session after another for as long as the daemon lives.

Each session has its own encoder and ring. Errors of camera and encoder end a session, are told, and are tried again
with growing pauses; nothing here decides what they mean for a recording.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from agent.capture.camera import Camera, CameraFrame
from agent.capture.microphone import Microphone
from agent.clock import NS_PER_S
from agent.daemon.signed_ring import SignedRing
from agent.daemon.signing_watch import SigningWatch
from agent.daemon.sound import SoundThread
from agent.encode.audio import AudioEncoder
from agent.encode.video import VideoEncoder
from agent.errors import BodycamError
from agent.media.packets import AudioFormat
from agent.recorder.fragment import MediaTracks
from agent.recorder.plan import Stream
from agent.ring.ring import PacketRing
from agent.settings.schema import Settings
from agent.signing.signer import StreamSigner

FIRST_RETRY_S = 0.5
RING_SLACK_NS = 2 * NS_PER_S
"""Kept beyond the pre-event: a trigger is acted on a little after it, and the start must fall on a keyframe before."""


def make_tracks(settings: Settings, encoder: VideoEncoder) -> MediaTracks:
    """What a recording of this session holds. The audio track is there whenever a microphone is configured."""
    if settings.audio.source == "none":
        return MediaTracks(encoder.format, None, b"")
    audio = AudioFormat(settings.audio.sample_rate_hz, settings.audio.channels)
    probe = AudioEncoder(settings.audio, audio)
    try:
        return MediaTracks(encoder.format, audio, probe.config)
    finally:
        probe.close()


def make_ring(settings: Settings, fps: float, on_progress: Callable[[], None] | None) -> PacketRing:
    """A ring with the configured bounds."""
    return PacketRing(
        keep_ns=settings.buffer.pre_event_s * NS_PER_S + RING_SLACK_NS,
        max_bytes=settings.buffer.max_bytes,
        frame_ns=round(NS_PER_S / fps),
        audio_before_trigger=settings.buffer.audio,
        on_progress=on_progress,
    )


class CaptureThread:
    """Runs sessions until `stop`. Callbacks come on this thread and must not block."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_camera: Callable[[], Camera],
        open_microphone: Callable[[Camera], Microphone | None],
        open_signer: Callable[[], StreamSigner | None],
        signing: SigningWatch,
        on_progress: Callable[[], None],
        on_started: Callable[[Stream], None],
        on_ended: Callable[[Stream | None, str], None],
        on_sound: Callable[[str | None], None],
        on_silence: Callable[[int, int], None],
    ) -> None:
        """open_signer: a new one for each session, None while there is no key. signing: see SignedRing.

        on_sound(message): the microphone failed, or works again (None). on_silence: see SoundThread.
        """
        self._settings = settings
        self._open_camera = open_camera
        self._open_microphone = open_microphone
        self._open_signer = open_signer
        self._signing = signing
        self._on_progress = on_progress
        self._on_started = on_started
        self._on_ended = on_ended
        self._on_sound = on_sound
        self._on_silence = on_silence
        self._stopping = threading.Event()
        self._keyframe_after_ns: int | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._sound_failed = False
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Ask to end, and wait. False when a camera hangs in the kernel and the thread has to be left behind."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """False once the thread has ended, which before `stop` only a defect makes it do."""
        return self._thread.is_alive()

    def force_keyframe(self, after_ns: int) -> None:
        """Make the first frame captured after that time a keyframe: what is before it can then be written at once.

        A frame that is being read at that moment was captured earlier, and would leave the newest ones to the next GOP.
        """
        self._keyframe_after_ns = after_ns

    def _wants_keyframe(self, captured_ns: int) -> bool:
        after_ns = self._keyframe_after_ns
        if after_ns is None or captured_ns <= after_ns:
            return False
        self._keyframe_after_ns = None
        return True

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        try:
            while not self._stopping.is_set():
                if self._session():
                    retry_s = FIRST_RETRY_S
                if self._stopping.wait(retry_s):
                    break
                retry_s = min(retry_s * 2, self._settings.camera.retry_max_s)
        except BaseException as error:
            self.failure = error  # a defect: the main thread sees it at its next tick and ends loudly
            raise

    def _session(self) -> bool:
        """One camera session. True when it gave any frame."""
        stream: Stream | None = None
        camera: Camera | None = None
        encoder: VideoEncoder | None = None
        sound: SoundThread | None = None
        signed: SignedRing | None = None
        frame: CameraFrame | None = None
        told = False
        try:
            camera = self._open_camera()
            camera_format = camera.open()
            encoder = VideoEncoder(self._settings.video, camera_format)
            ring = make_ring(self._settings, camera_format.fps, self._on_progress)
            tracks = make_tracks(self._settings, encoder)
            stream = Stream(ring, tracks, camera.name, encoder.name)
            signed = SignedRing(ring, self._open_signer, self._signing)
            sound = self._start_sound(camera, stream)
            while not self._stopping.is_set():
                frame = camera.read()
                for packet in encoder.encode(frame, force_keyframe=self._wants_keyframe(frame.captured_ns)):
                    signed.push_video(packet)
                if not told and ring.newest_video_ns is not None:
                    told = True
                    self._on_started(stream)
            for packet in encoder.flush():
                signed.push_video(packet)
            self._on_ended(stream, "The agent is stopping.")
        except BodycamError as error:
            if signed is not None and encoder is not None:
                with suppress(BodycamError):  # a broken encoder has nothing more to give
                    for packet in encoder.flush():
                        signed.push_video(packet)
            self._on_ended(stream if told else None, str(error))
        finally:
            if sound is not None:
                sound.stop()
            if signed is not None:
                signed.close()
            if encoder is not None:
                encoder.close()
            # Its picture may lie in a buffer of the camera, which could then not be freed.
            frame = None
            if camera is not None:
                camera.close()
        return told

    def _start_sound(self, camera: Camera, stream: Stream) -> SoundThread | None:
        if stream.tracks.audio is None:
            return None
        sound = SoundThread(
            self._settings,
            lambda: self._open_microphone(camera),
            stream.tracks.audio,
            stream.ring,
            self._sound_changed,
            self._on_silence,
        )
        sound.start()
        return sound

    def _sound_changed(self, message: str | None) -> None:
        # A new camera session has a new sound thread, which does not know what the last one reported.
        failed, self._sound_failed = self._sound_failed, message is not None
        if failed != self._sound_failed:
            self._on_sound(message)
