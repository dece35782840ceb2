"""The sound thread: microphone to AAC to the ring of one camera session. Video never waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from agent.capture.microphone import AudioChunk, Microphone
from agent.daemon.logs import LOG
from agent.encode.audio import AudioEncoder
from agent.errors import BodycamError, EncoderError, MicrophoneError
from agent.media.packets import AudioFormat
from agent.ring.ring import PacketRing
from agent.settings.schema import Settings

RETRY_S = 2.0
STOP_S = 1.0


class SoundThread:
    """Runs until `stop`; a microphone that fails is reported once and tried again.

    on_sound(message): sound failed, or reaches the ring (None); told of every change, and of the first state.
    """

    def __init__(
        self,
        settings: Settings,
        open_microphone: Callable[[], Microphone | None],
        audio: AudioFormat,
        ring: PacketRing,
        on_sound: Callable[[str | None], None],
        on_silence: Callable[[int, int], None],
    ) -> None:
        """on_silence(from_ns, to_ns): silence stands there for sound that was never captured."""
        self._settings = settings
        self._open_microphone = open_microphone
        self._audio = audio
        self._ring = ring
        self._on_sound = on_sound
        self._on_silence = on_silence
        self._encoder: AudioEncoder | None = None
        self._stopping = threading.Event()
        self._failed: bool | None = None
        self._thread = threading.Thread(target=self._run, name="sound", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask to end, and wait a moment: a device that blocks is left behind, it holds nothing that matters."""
        self._stopping.set()
        self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._session()
            except BodycamError as error:
                self._tell(str(error))
            except Exception as error:  # noqa: BLE001 a defect in sound takes no picture down, nor goes unsaid
                LOG.exception("sound-failed")
                self._tell(f"Recording sound failed ({error!r}); it is tried again, the log says more.")
            self._stopping.wait(RETRY_S)
        self._close_encoder()

    def _close_encoder(self) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()

    def _tell(self, message: str | None) -> None:
        failed = message is not None
        if failed != self._failed and not self._stopping.is_set():
            self._failed = failed
            self._on_sound(message)

    def _session(self) -> None:
        microphone = self._open_microphone()
        if microphone is None:
            raise MicrophoneError(
                'This source has no sound; set audio.source = "none" and buffer.audio = false to record without it.'
            )
        try:
            audio = microphone.open()
            if audio != self._audio:
                raise MicrophoneError(
                    f"{microphone.name} gives {audio.channels} channels at {audio.sample_rate_hz} Hz; "
                    "set audio.channels and audio.sample_rate_hz to that."
                )
            # One encoder for all sessions of this thread: it fills the hole that a microphone leaves while it is away.
            self._encoder = self._encoder or AudioEncoder(self._settings.audio, audio)
            while not self._stopping.is_set():
                self._encode(self._encoder, microphone.read())
        except EncoderError:
            self._close_encoder()
            raise
        finally:
            microphone.close()

    def _encode(self, encoder: AudioEncoder, chunk: AudioChunk) -> None:
        packets = encoder.encode(chunk)
        for packet in packets:
            self._ring.push_audio(packet)
        for from_ns, to_ns in encoder.take_silence():
            self._on_silence(from_ns, to_ns)
        if packets:
            self._tell(None)
