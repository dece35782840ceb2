"""4:2:0 pictures in memory that someone else owns, made into frames without copying where that is possible."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace

Bytes = npt.NDArray[np.uint8]


def planes_of(image: Bytes, pixel_format: str, width: int, height: int) -> list[Bytes]:
    """Views of the planes of a 4:2:0 buffer, without their padding.

    image: shape (height * 3 / 2, stride) uint8 with contiguous rows; for "yuv420p" the chroma stride is half the luma
    stride, for "nv12" it is the same. Widths and heights are even.
    """
    stride = image.shape[1]
    flat = image.reshape(-1)
    chroma = flat[stride * height : stride * height * 3 // 2]
    luma = flat[: stride * height].reshape(height, stride)[:, :width]
    if pixel_format == "nv12":
        return [luma, chroma.reshape(height // 2, stride)[:, :width]]
    halves = chroma.reshape(2, height // 2, stride // 2)[:, :, : width // 2]
    return [luma, halves[0], halves[1]]


def wrap_yuv420(
    image: Bytes,
    pixel_format: str,
    width: int,
    height: int,
    *,
    full_range: bool = False,
    colorspace: Colorspace | None = None,
) -> av.VideoFrame:
    """A frame over `image`, shape (height * 3 / 2, stride), in "yuv420p" or "nv12".

    The frame borrows the buffer and keeps it alive; writing into the buffer changes the frame. It always says which
    colour range it has: an encoder told nothing guesses.
    """
    if height % 4 == 0:
        frame = av.VideoFrame.from_numpy_buffer(image, pixel_format, width=width)
    else:
        # from_numpy_buffer works the height out of the rows as rows // 6 * 4 and so shortens every
        # height that is no multiple of four (270 becomes 268), chroma misplaced. Those are copied.
        frame = av.VideoFrame(width, height, pixel_format)
        for plane, source in zip(frame.planes, planes_of(image, pixel_format, width, height), strict=True):
            target = _bytes_of(plane).reshape(plane.height, plane.line_size)
            target[:, : source.shape[1]] = source
    frame.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    if colorspace is not None:
        frame.colorspace = colorspace
    return frame


def _bytes_of(plane: Any) -> Bytes:
    # Planes have the buffer protocol; PyAV's type stubs do not say so.
    return np.frombuffer(plane, np.uint8)


def luma_of(frame: av.VideoFrame) -> Bytes:
    """The luma plane of an 8-bit planar or NV12 frame, shape (height, width): a view, valid as long as the frame."""
    plane = frame.planes[0]
    return _bytes_of(plane).reshape(-1, plane.line_size)[: frame.height, : frame.width]
