"""Files as cameras: own pace, endless without a jump, sound in step, and sentences for what is no video."""

from __future__ import annotations

import itertools
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from agent.capture import counter
from agent.capture.file import FileCamera, FileMicrophone
from agent.capture.image import wrap_yuv420
from agent.capture.images import ImageFolderCamera
from agent.capture.microphone import AudioChunk
from agent.capture.pace import TimeBase
from agent.capture.raw import RawFileCamera
from agent.capture.scene import Scene, find_bursts, read_flash
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.errors import CameraError, CameraLostError, MicrophoneError
from tests.support.scene_codec import luma_copy, write_scene_file

START_NS = 100 * NS_PER_S


def test_plays_at_its_own_rate_and_loops_without_a_jump(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "scene.mp4", frames=25)
    clock = SimulatedClock()
    camera = FileCamera(clock, tmp_path / "scene.mp4")
    given = camera.open()
    assert (given.width, given.height, given.fps, given.pixel_format) == (96, 64, 10, "yuv420p")
    frames = []
    for _ in range(80):
        frame = camera.read()
        assert clock.boottime_ns() == frame.captured_ns
        frames.append((frame.captured_ns, counter.read(luma_copy(frame.image))))
    assert [count for _, count in frames] == [index % 25 for index in range(80)]
    assert [time for time, _ in frames] == [START_NS + index * 100 * NS_PER_MS for index in range(80)]
    assert camera.missed == 0


def test_frames_with_uneven_times_keep_them(tmp_path: Path) -> None:
    path = tmp_path / "uneven.mkv"
    scene = Scene(96, 64, 10)
    times_ms = [0, 40, 110, 115, 300, 480]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time_ms in enumerate(times_ms):
            picture = av.VideoFrame.from_ndarray(scene.draw(index, index), "yuv420p")
            picture.pts = time_ms
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    camera = FileCamera(SimulatedClock(), path)
    camera.open()
    got = [camera.read() for _ in range(12)]
    since_ms = [(frame.captured_ns - START_NS) // NS_PER_MS for frame in got]
    assert since_ms[:6] == times_ms
    turn_ms = since_ms[6]
    assert turn_ms > 480
    assert since_ms[6:] == [turn_ms + time for time in times_ms]


def test_scaled_to_the_size_asked_for_and_to_limited_range(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "full.mp4", width=320, height=240, pixel_format="yuvj420p", frames=5)
    camera = FileCamera(SimulatedClock(), tmp_path / "full.mp4", 192, 144)
    given = camera.open()
    assert (given.width, given.height) == (192, 144)
    frame = camera.read().image
    assert (frame.width, frame.height, frame.format.name, frame.color_range) == (192, 144, "yuv420p", 1)
    # Cells that were 16 and 235 are so again, and not 0 and 255 or squeezed twice.
    luma = luma_copy(frame)
    cells = luma[: 144 * 64 // 240, : 192 * 192 // 320]
    low, high = np.percentile(cells, [5, 95])
    assert abs(low - 16) <= 4
    assert abs(high - 235) <= 4


def test_full_range_told_only_by_a_flag_becomes_limited(tmp_path: Path) -> None:
    # FFV1 keeps the format yuv420p and says "full range" beside it: the size fits, and yet it must be converted.
    path = tmp_path / "flagged.mkv"
    picture = av.VideoFrame.from_ndarray(np.full((96, 96), 128, np.uint8), "yuv420p")
    halves = np.repeat(np.array([[0, 255]], np.uint8), 48, axis=1)
    picture.planes[0].update(np.repeat(halves, 64, axis=0).tobytes())
    picture.color_range, picture.pts = 2, 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.color_range = 2
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    camera = FileCamera(SimulatedClock(), path)
    camera.open()
    frame = camera.read().image
    luma = luma_copy(frame)
    assert frame.color_range == 1
    assert [int(luma[30, 10]), int(luma[30, 80])] == pytest.approx([16, 235], abs=1)


def test_a_frame_that_fits_carries_no_time_of_the_file(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "scene.mp4", frames=5)
    camera = FileCamera(SimulatedClock(), tmp_path / "scene.mp4")
    camera.open()
    camera.read()
    assert camera.read().image.pts is None


def test_late_by_many_frames_is_counted_and_the_newest_come(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "scene.mp4", frames=25)
    clock = SimulatedClock()
    camera = FileCamera(clock, tmp_path / "scene.mp4")
    camera.open()
    camera.read()
    clock.advance_ns(1500 * NS_PER_MS)
    frame = camera.read()
    assert clock.boottime_ns() - frame.captured_ns <= 400 * NS_PER_MS
    assert camera.missed == counter_of(frame) - 1 > 5


def counter_of(frame: object) -> int:
    read = counter.read(luma_copy(frame.image))  # type: ignore[attr-defined]
    assert read is not None
    return read


def test_reopened_it_joins_the_running_turn(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "scene.mp4", frames=25)
    clock = SimulatedClock()
    camera = FileCamera(clock, tmp_path / "scene.mp4")
    camera.open()
    camera.read()
    camera.close()
    clock.advance_ns(6_050 * NS_PER_MS)
    camera.open()
    frame = camera.read()
    assert frame.captured_ns == START_NS + 6_100 * NS_PER_MS
    assert counter_of(frame) == 61 % 25


@pytest.mark.parametrize(
    ("sound_s", "starts_s", "layout"),
    [(2.5, 0.0, "stereo"), (1.3, 0.0, "mono"), (4.0, 0.0, "stereo"), (1.6, 0.4, "stereo"), (3.0, -0.3, "mono")],
)
def test_sound_stays_in_step_over_many_turns(tmp_path: Path, sound_s: float, starts_s: float, layout: str) -> None:
    """Sound as long as the picture, shorter, longer, beginning later and earlier: always placed where it belongs."""
    path = tmp_path / "scene.mp4"
    write_scene_file(path, frames=25, sound_s=sound_s, sound_starts_s=starts_s, sound_layout=layout)
    clock = SimulatedClock()
    time_base = TimeBase(clock)
    camera = FileCamera(clock, path, time_base=time_base)
    microphone = FileMicrophone(time_base, path, 16_000, 1)
    camera.open()
    microphone.open()
    flashes: list[float] = []
    chunks: list[AudioChunk] = []
    for _ in range(25 * 6):
        frame = camera.read()
        if read_flash(luma_copy(frame.image)):
            flashes.append((frame.captured_ns - START_NS) / NS_PER_S)
        while not chunks or chunks[-1].captured_ns < frame.captured_ns:
            chunks.append(microphone.read())
    assert {chunk.samples.shape for chunk in chunks} == {(1, 320)}
    assert {b.captured_ns - a.captured_ns for a, b in itertools.pairwise(chunks)} == {20 * NS_PER_MS}
    sound = np.concatenate([chunk.samples[0] for chunk in chunks])
    bursts = [(chunks[0].captured_ns - START_NS) / NS_PER_S + onset for onset in find_bursts(sound, 16_000)]
    assert flashes == [turn * 2.5 + mark for turn in range(6) for mark in (0, 1, 2)]
    # Bursts that the file's sound holds whole; one cut by the ends of the sound (or of the capture) is no onset. The
    # sound of a negative start is that of the scene from 0 on, so its bursts come `starts_s` before the flashes.
    shift = min(0.0, starts_s)
    held = [
        turn * 2.5 + mark + shift
        for turn in range(6)
        for mark in (0, 1, 2, 3)
        if max(starts_s, 0) < mark + shift < min(2.4, max(starts_s, 0) + sound_s - 0.1)
    ]
    at_seams = [turn * 2.5 for turn in range(7)]
    away = [burst for burst in bursts if min(abs(burst - seam) for seam in at_seams) > 0.05]
    assert away == pytest.approx([time for time in held if time < 14.9], abs=0.002)
    assert len(away) >= 6


def test_a_microphone_opened_later_begins_at_the_sound_of_that_moment(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "scene.mp4", frames=25, sound_s=2.5)
    clock = SimulatedClock()
    time_base = TimeBase(clock)
    time_base.origin_ns()
    clock.advance_ns(6_777_777_777)  # in the third turn
    microphone = FileMicrophone(time_base, tmp_path / "scene.mp4", 48_000, 2)
    microphone.open()
    chunks = [microphone.read() for _ in range(150)]
    assert abs(chunks[0].captured_ns - (START_NS + 6_777_777_777)) < 21_000
    sound = np.concatenate([chunk.samples for chunk in chunks], axis=1)
    assert sound.shape[0] == 2
    found = [(chunks[0].captured_ns - START_NS) / NS_PER_S + onset for onset in find_bursts(sound[0], 48_000)]
    assert [time for time in found if abs(time - 7.5) > 0.05] == pytest.approx([7.0, 8.5, 9.5], abs=0.002)


def test_files_that_are_no_video_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is a letter, and no video at all.\n" * 50)
    (tmp_path / "letter.txt").write_text("Dear camera,\n" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16_000))
    for name in ("text.mp4", "letter.txt", "empty.mp4", "sound.wav"):
        with pytest.raises(CameraError, match=r"\[camera\] device"):
            FileCamera(SimulatedClock(), tmp_path / name).open()
    with pytest.raises(CameraError, match=r"does not exist; correct \[camera\] device"):
        FileCamera(SimulatedClock(), tmp_path / "absent.mp4").open()
    with pytest.raises(CameraLostError, match="not open"):
        FileCamera(SimulatedClock(), tmp_path / "absent.mp4").read()


def test_a_file_removed_while_it_plays_is_a_lost_camera(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "scene.mp4", frames=5)
    camera = FileCamera(SimulatedClock(), tmp_path / "scene.mp4")
    camera.open()
    for _ in range(5):
        camera.read()
    (tmp_path / "scene.mp4").unlink()
    with pytest.raises(CameraLostError, match="does not exist"):
        camera.read()
    with pytest.raises(CameraLostError, match="open it before reading"):
        camera.read()


def test_sound_of_a_file_removed_while_it_plays_is_an_error(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "scene.mp4", frames=10, sound_s=1)
    microphone = FileMicrophone(TimeBase(SimulatedClock()), tmp_path / "scene.mp4", 16_000, 1)
    microphone.open()
    (tmp_path / "scene.mp4").unlink()
    with pytest.raises(MicrophoneError, match=r"stopped: .*does not exist"):
        [microphone.read() for _ in range(60)]
    with pytest.raises(MicrophoneError, match="open it before reading"):
        microphone.read()


def test_damaged_packets_cost_frames_and_not_the_camera(tmp_path: Path) -> None:
    path = tmp_path / "scene.ts"
    write_scene_file(path, frames=40)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 600] = bytes(600)
    path.write_bytes(damaged)
    camera = FileCamera(SimulatedClock(), path)
    camera.open()
    times = [camera.read().captured_ns for _ in range(100)]
    assert all(a < b for a, b in itertools.pairwise(times))


def test_a_silent_file_has_no_microphone(tmp_path: Path) -> None:
    write_scene_file(tmp_path / "silent.mp4", frames=5)
    microphone = FileMicrophone(TimeBase(SimulatedClock()), tmp_path / "silent.mp4", 16_000, 1)
    with pytest.raises(MicrophoneError, match=r'has no sound; set audio.source = "none" and buffer.audio = false'):
        microphone.open()
    with pytest.raises(MicrophoneError, match="not open"):
        microphone.read()
    with pytest.raises(MicrophoneError, match="does not exist"):
        FileMicrophone(TimeBase(SimulatedClock()), tmp_path / "absent.mp4", 16_000, 1).open()


def test_image_folder_shows_each_image_in_order_of_name(tmp_path: Path) -> None:
    scene = Scene(96, 64, 10)
    for index in range(3):
        picture = av.VideoFrame.from_ndarray(scene.draw(index, index), "yuv420p")
        picture.reformat(format="rgb24").save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    camera = ImageFolderCamera(SimulatedClock(), tmp_path, 96, 64, 5)
    camera.open()
    frames = [camera.read() for _ in range(7)]
    assert [(f.captured_ns - START_NS) // NS_PER_MS for f in frames] == [200 * k for k in range(7)]
    counts = []
    camera = ImageFolderCamera(SimulatedClock(), tmp_path, 96, 64, 5)
    camera.open()
    for _ in range(7):
        frame = camera.read()
        assert (frame.image.format.name, frame.image.color_range) == ("yuv420p", 1)
        counts.append(counter_of(frame))
    assert counts == [0, 1, 2, 0, 1, 2, 0]
    (tmp_path / "1.png").write_bytes(b"broken")
    with pytest.raises(CameraLostError, match=r"1\.png"):
        camera.read()


def test_an_empty_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="holds no image"):
        ImageFolderCamera(SimulatedClock(), tmp_path, 96, 64, 5).open()


@pytest.mark.parametrize(("width", "height"), [(96, 64), (160, 90)])
def test_raw_frames_come_as_they_lie_in_the_file_and_loop(tmp_path: Path, width: int, height: int) -> None:
    scene = Scene(width, height, 10)
    path = tmp_path / "frames.yuv"
    images = [scene.draw(index, index).copy() for index in range(4)]
    path.write_bytes(b"".join(image.tobytes() for image in images))
    clock = SimulatedClock()
    camera = RawFileCamera(clock, path, width, height, 10)
    assert camera.open().pixel_format == "yuv420p"
    for index in range(10):
        frame = camera.read()
        assert frame.captured_ns == START_NS + index * 100 * NS_PER_MS
        assert (frame.image.width, frame.image.height) == (width, height)
        assert np.array_equal(frame.image.to_ndarray(), images[index % 4])
    assert camera.missed == 0


def test_raw_file_of_another_size_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "frames.yuv"
    path.write_bytes(bytes(96 * 64 * 3 // 2 * 3 - 1))
    with pytest.raises(CameraError, match=r"no whole number of 96x64 I420 frames.*width and height"):
        RawFileCamera(SimulatedClock(), path, 96, 64, 10).open()
    path.write_bytes(b"")
    with pytest.raises(CameraError, match="no whole number"):
        RawFileCamera(SimulatedClock(), path, 96, 64, 10).open()
    with pytest.raises(CameraError, match="even"):
        RawFileCamera(SimulatedClock(), path, 97, 64, 10).open()
    with pytest.raises(CameraError, match="cannot be read"):
        RawFileCamera(SimulatedClock(), tmp_path / "absent.yuv", 96, 64, 10).open()


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
@pytest.mark.parametrize(("width", "height", "stride"), [(96, 64, 128), (160, 90, 192), (160, 270, 160)])
def test_padded_rows_and_awkward_heights_are_honoured(pixel_format: str, width: int, height: int, stride: int) -> None:
    """Heights that are no multiple of four are cut short by PyAV's from_numpy_buffer."""
    image = np.random.default_rng(3).integers(0, 256, (height * 3 // 2, stride), dtype=np.uint8)
    frame = wrap_yuv420(image, pixel_format, width, height)
    assert (frame.width, frame.height) == (width, height)
    got = frame.to_ndarray()
    assert np.array_equal(got[:height], image[:height, :width])
    chroma = image.reshape(-1)[height * stride :]
    if pixel_format == "nv12":
        assert np.array_equal(got[height:], chroma.reshape(height // 2, stride)[:, :width])
    else:
        u, v = chroma.reshape(2, height // 2, stride // 2)[:, :, : width // 2]
        assert np.array_equal(got[height:].reshape(2, -1), np.stack([u.reshape(-1), v.reshape(-1)]))
