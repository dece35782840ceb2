"""The rig's webcam without a kernel: its pictures hold their numbers, its descriptors their lengths."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from agent.capture import counter
from tests.rig.usb.descriptors import CS_INTERFACE, FORMATS, Descriptors
from tests.rig.usb.pictures import Jpeg, Yuyv
from tests.rig.webcam import FPS, HEIGHT, WIDTH, template

NUMBERS = (0, 1, 4711, counter.COUNTER_MODULO - 1)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_jpeg_is_numbered_without_decoding_it(number: int) -> None:
    jpeg = Jpeg(template()[0], WIDTH).numbered(number)
    luma = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert luma is not None
    assert luma.shape == (HEIGHT, WIDTH)
    assert counter.read(luma) == number  # type: ignore[arg-type]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_raw_picture_is_numbered(number: int) -> None:
    yuyv = np.frombuffer(Yuyv(template()[1], WIDTH).numbered(number), np.uint8).reshape(HEIGHT, WIDTH, 2)
    assert counter.read(yuyv[:, :, 0]) == number


def test_the_number_is_all_that_changes() -> None:
    jpeg, yuyv = template()
    assert Jpeg(jpeg, WIDTH).numbered(0) == jpeg
    assert Yuyv(yuyv, WIDTH).numbered(0) == yuyv


def test_a_dark_picture_shows_nothing() -> None:
    jpeg, yuyv = template()
    luma = cv2.imdecode(np.frombuffer(Jpeg(jpeg, WIDTH).dark(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert luma is not None
    assert luma.max() < 10
    raw = Yuyv(yuyv, WIDTH).dark()
    assert len(raw) == len(yuyv)
    assert set(raw[0::2]) == {16}


@pytest.mark.parametrize("formats", [["MJPG"], ["YUYV"], list(FORMATS)])
def test_lengths_in_the_descriptors_add_up(formats: list[str]) -> None:
    """A kernel follows them blindly, and a wrong one looks like a driver's defect."""
    configuration = Descriptors(formats, WIDTH, HEIGHT, FPS).configuration
    assert struct.unpack("<H", configuration[2:4])[0] == len(configuration)
    lengths, at = [], 0
    while at < len(configuration):
        lengths.append((configuration[at + 1], configuration[at]))
        at += configuration[at]
    assert at == len(configuration)
    headers = [place for place, (kind, _) in enumerate(lengths) if kind == 4]
    specific = [sum(length for kind, length in lengths[place:] if kind == CS_INTERFACE) for place in headers]
    control, streaming = specific[0] - specific[1], specific[1]
    assert struct.pack("<BBHH", CS_INTERFACE, 1, 0x0100, control) in configuration
    assert struct.pack("<BBBH", CS_INTERFACE, 1, len(formats), streaming) in configuration
