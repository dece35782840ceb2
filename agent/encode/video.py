"""H.264 from camera frames: closed GOPs of a set length, SPS and PPS in each, one packet a picture, at once.

`h264_v4l2m2m` (the Pi's hardware, kernel driver bcm2835-codec) where it opens, else `libx264`. What is said here about
the hardware comes from FFmpeg's libavcodec/v4l2_m2m_enc.c and v4l2_buffers.c and is untried on a real Pi.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
from av.codec.context import ThreadType
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from agent.capture.camera import CameraFormat, CameraFrame
from agent.clock import NS_PER_MS, NS_PER_S
from agent.encode.access_unit import AccessUnits
from agent.errors import EncoderError
from agent.media.packets import VideoFormat, VideoPacket
from agent.settings.schema import VideoSettings

HARDWARE = "h264_v4l2m2m"
SOFTWARE = "libx264"

# V4L2 carries time stamps as struct timeval: in microseconds they come back exactly, so that look-up by pts works.
_TIME_BASE = Fraction(1, 1_000_000)
_NS_PER_TICK = 1_000
_VBV_S = 1
# bcm2835-codec rounds bytesperline up to 32, and libavcodec copies planes with the frame's own line size: any other
# width comes out skewed.
_HARDWARE_WIDTH_STEP = 32
# libavcodec keeps a reference to a picture while the driver has no free buffer; well before that it is given copies.
_HARDWARE_BORROWED_PICTURES = 4
_SLICED_FROM_PIXELS_PER_S = 1280 * 720 * 24
_MAX_SLICES = 4


@dataclass(frozen=True, slots=True)
class ColourDescription:
    """ITU-T H.273 code points as FFmpeg numbers them; 2 (range: 0) is "unspecified"."""

    range: int = 0
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2

    @classmethod
    def of(cls, image: av.VideoFrame) -> ColourDescription:
        """What the picture says of itself; the "yuvj" formats are full range by name."""
        range_ = int(ColorRange.JPEG) if image.format.name.startswith("yuvj") else int(image.color_range)
        return cls(range_, int(image.color_primaries), int(image.color_trc), int(image.colorspace))


def slice_threads(settings_threads: int, width: int, height: int, fps: float, cpus: int) -> int:
    """How many threads, and so slices a picture, libx264 uses; 0 in the settings means: what the picture needs.

    Slices and not frames are spread over threads: frame threads hold a picture back for each thread. The second slice
    costs about 5 % of CPU (1080p30, superfast, x86), so small pictures and slow cameras stay whole.
    """
    if settings_threads:
        return settings_threads
    return min(cpus, _MAX_SLICES) if width * height * fps >= _SLICED_FROM_PIXELS_PER_S else 1


def tightly_packed(image: av.VideoFrame) -> av.VideoFrame:
    """A copy whose lines follow on one another without padding and whose memory is its own."""
    return av.VideoFrame.from_numpy_buffer(image.to_ndarray(), format=image.format.name)


def to_limited_yuv420p(reformatter: VideoReformatter, image: av.VideoFrame) -> av.VideoFrame:
    """The picture as yuv420p in limited range (16 to 235), its matrix kept, or for RGB chosen by size.

    Source of the choice: BT.709 from 720 lines up, BT.601 below, as players assume where nothing is said.
    """
    full_range = image.format.name.startswith("yuvj") or image.color_range == ColorRange.JPEG or image.format.is_rgb
    matrix = None
    rounding = Interpolation.BILINEAR
    if image.format.is_rgb:
        matrix = int(Colorspace.ITU709) if image.height >= 720 else int(Colorspace.ITU601)
        # Without it swscale's RGB comes out one step dark and green.
        rounding |= Interpolation.ACCURATE_RND
    return reformatter.reformat(
        image,
        format="yuv420p",
        dst_colorspace=matrix,
        interpolation=int(rounding),
        src_color_range=int(ColorRange.JPEG if full_range else ColorRange.MPEG),
        dst_color_range=int(ColorRange.MPEG),
        threads=1,
    )


class VideoEncoder:
    """One encoding session of one camera session. Used from one thread.

    name: FFmpeg's name of the encoder that opened. format: what its packets are.
    """

    name: str
    format: VideoFormat

    def __init__(self, settings: VideoSettings, camera: CameraFormat) -> None:
        """Open the encoder. Raises EncoderError when none opens with these settings for this camera."""
        if camera.width % 2 or camera.height % 2 or camera.width < 2 or camera.height < 2 or camera.fps <= 0:
            raise EncoderError(
                f"The camera gives {camera.width}x{camera.height} at {camera.fps:g} frames/s, which H.264 4:2:0 cannot "
                "hold; set camera.width and camera.height to even numbers and camera.fps above 0."
            )
        self._settings = settings
        self._camera = camera
        self.format = VideoFormat(camera.width, camera.height, camera.fps)
        self._reformatter = VideoReformatter()
        self._units = AccessUnits()
        self._gop_ns = settings.gop_ms * NS_PER_MS
        self._half_frame_ns = round(NS_PER_S / camera.fps / 2)
        self._gop_start_ns: int | None = None
        self._last_captured_ns: int | None = None
        self._last_pts: int | None = None
        self._colours = ColourDescription()
        self._started = False
        self._context: VideoCodecContext | None = self._open_first()

    def encode(self, frame: CameraFrame, *, force_keyframe: bool = False) -> list[VideoPacket]:
        """The packets that are ready; with libx264 always this frame's own. force_keyframe: begin a GOP with this one.

        The picture's memory is free again on return; its pts, time base and picture type are overwritten.
        Raises EncoderError when the frame does not fit the camera's format, is not later than the one before it, or the
        encoder fails.
        """
        context = self._require_open()
        image = frame.image
        if (image.width, image.height) != (self.format.width, self.format.height):
            raise EncoderError(
                f"The camera gave a picture of {image.width}x{image.height} in a session of "
                f"{self.format.width}x{self.format.height}; restart the capture so that the encoder is opened anew."
            )
        if self._last_captured_ns is not None and frame.captured_ns <= self._last_captured_ns:
            raise EncoderError(
                f"The camera stamped a picture {self._last_captured_ns - frame.captured_ns} ns before or at the one "
                "before it; restart the capture, and check the camera's clock when it happens again."
            )
        image = self._prepared(image)
        if not self._started:
            context = self._describe(context, ColourDescription.of(image))
        pts = frame.captured_ns // _NS_PER_TICK
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        # By time and not by count: a camera that slows down in the dark would else stretch what a power cut can take.
        due = (
            self._gop_start_ns is None
            or frame.captured_ns - self._gop_start_ns >= self._gop_ns - self._half_frame_ns
        )  # fmt: skip
        image.pts = pts
        image.time_base = _TIME_BASE
        # Always set: pictures of a file camera still carry the types of their old stream, and libx264 obeys them.
        image.pict_type = PictureType.I if due or force_keyframe else PictureType.NONE
        if due or force_keyframe:
            self._gop_start_ns = frame.captured_ns
        self._started = True
        self._last_captured_ns = frame.captured_ns
        self._last_pts = pts
        self._units.picture_in(pts, frame.captured_ns)
        return self._packets(context, image)

    def flush(self) -> list[VideoPacket]:
        """The packets that are still inside; nothing can be encoded afterwards. Raises EncoderError when it fails."""
        packets = self._packets(self._require_open(), None)
        self.close()
        return packets

    def close(self) -> None:
        """Free the encoder; may be called twice, and after an error."""
        self._context = None

    def _require_open(self) -> VideoCodecContext:
        if self._context is None:
            raise EncoderError("The video encoder was closed; open a new one for a new camera session.")
        return self._context

    def _packets(self, context: VideoCodecContext, image: av.VideoFrame | None) -> list[VideoPacket]:
        try:
            encoded = context.encode(image)
        except FFmpegError as error:
            raise EncoderError(
                f"The video encoder {self.name} failed ({error}); the capture must be restarted."
            ) from error
        packets = []
        for raw in encoded:
            packet = self._units.packet_out(bytes(raw), raw.pts)
            if packet is None:
                continue
            if packet.is_keyframe and self._gop_start_ns is not None:
                self._gop_start_ns = max(self._gop_start_ns, packet.pts_ns)
            packets.append(packet)
        return packets

    def _prepared(self, image: av.VideoFrame) -> av.VideoFrame:
        hardware = self.name == HARDWARE
        # The hardware path writes no range into the stream, so full range would be shown with crushed blacks.
        full_range = image.color_range == ColorRange.JPEG
        if image.format.name != self._pixel_format or (hardware and full_range):
            image = to_limited_yuv420p(self._reformatter, image)
        if hardware and (
            image.planes[0].line_size != image.width or self._units.in_flight >= _HARDWARE_BORROWED_PICTURES
        ):
            image = tightly_packed(image)
        return image

    @property
    def _pixel_format(self) -> str:
        """What the encoder takes without a conversion."""
        direct = ("yuv420p", "nv12") if self.name == HARDWARE else ("yuv420p", "nv12", "yuvj420p")
        return self._camera.pixel_format if self._camera.pixel_format in direct else "yuv420p"

    def _describe(self, context: VideoCodecContext, colours: ColourDescription) -> VideoCodecContext:
        """Colours are known with the first picture only, and written into the SPS at opening only."""
        if self.name == HARDWARE or colours == self._colours:
            return context
        self._colours = colours
        self._context = self._open(self.name)
        return self._context

    def _open_first(self) -> VideoCodecContext:
        wanted = self._settings.encoder
        if wanted == "auto":
            if self._camera.width % _HARDWARE_WIDTH_STEP == 0:
                try:
                    return self._open(HARDWARE)
                except EncoderError:
                    self.name = SOFTWARE  # no such hardware here, which is no fault
            return self._open(SOFTWARE)
        if wanted == HARDWARE and self._camera.width % _HARDWARE_WIDTH_STEP:
            raise EncoderError(
                f"{HARDWARE} skews pictures whose width is no multiple of {_HARDWARE_WIDTH_STEP}, and the camera gives "
                f'{self._camera.width}; change camera.width or set video.encoder to "libx264".'
            )
        return self._open(wanted)

    def _open(self, name: str) -> VideoCodecContext:
        self.name = name
        settings, camera = self._settings, self._camera
        try:
            context = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
            context.width = camera.width
            context.height = camera.height
            context.pix_fmt = self._pixel_format
            context.time_base = _TIME_BASE
            context.framerate = Fraction(camera.fps).limit_denominator(1001)
            context.gop_size = max(1, round(camera.fps * settings.gop_ms / 1000))
            context.max_b_frames = 0
            context.bit_rate = settings.bitrate_bps
            if name == SOFTWARE:
                self._configure_x264(context)
            context.open()
        except (FFmpegError, OSError) as error:
            raise EncoderError(
                f"The video encoder {name} does not open for {camera.width}x{camera.height} at {camera.fps:g} frames/s "
                f'({error}); set video.encoder to "auto" or "libx264", or change [video] to what it can do.'
            ) from error
        return context

    def _configure_x264(self, context: VideoCodecContext) -> None:
        settings, camera = self._settings, self._camera
        context.thread_count = slice_threads(
            settings.threads, camera.width, camera.height, camera.fps, os.cpu_count() or 1
        )
        context.thread_type = ThreadType.SLICE
        context.color_range = self._colours.range
        context.color_primaries = self._colours.primaries
        context.color_trc = self._colours.transfer
        context.colorspace = self._colours.matrix
        context.options = {
            "preset": settings.preset,
            "tune": "zerolatency",
            # VBV: however hard the scene, N seconds stay within N * bitrate plus one buffer, as the ring counts on.
            "maxrate": str(settings.bitrate_bps),
            "bufsize": str(settings.bitrate_bps * _VBV_S),
            # Captions that a file camera's pictures drag along are none of this recording.
            "a53cc": "0",
            # Headers in front of each IDR picture: libavcodec asks for them as long as GLOBAL_HEADER is not set.
            # A forced I picture is an IDR picture because open-gop is off.
            "x264-params": "scenecut=0:open-gop=0",
        }
