"""Decoded pictures of any size and format, made into the one that was asked for."""

from __future__ import annotations

import av
from av.video.reformatter import ColorRange, VideoReformatter


class Fitter:
    """Turns any decoded picture into yuv420p, limited range, of one size."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._reformatter = VideoReformatter()  # keeps the swscale context; VideoFrame.reformat makes one a frame

    def fit(self, frame: av.VideoFrame) -> av.VideoFrame:
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        rgb = not frame.format.name.startswith(("yuv", "nv", "gray"))
        if (frame.width, frame.height, frame.format.name, full) != (self._width, self._height, "yuv420p", False):
            frame = self._reformatter.reformat(
                frame,
                self._width,
                self._height,
                "yuv420p",
                src_color_range=ColorRange.JPEG if full or rgb else ColorRange.MPEG,
                dst_color_range=ColorRange.MPEG,
            )
        frame.color_range = ColorRange.MPEG
        frame.pts = None  # the file's own time must not reach the encoder in place of captured_ns
        return frame
