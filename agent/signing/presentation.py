"""Whether a file shows its pictures as they were filmed: each one, one after the other, and nothing beside them.

Signatures cover the pictures in the order in which they are stored. Players show them when and as the container says,
which no signature covers. The camera's encoder makes no B frames, so all three orders (stored, decoded, shown) are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from agent.media.tracks import EMPTY_EDIT, Edit, Movie, Track

MAX_LISTED = 5
LONG_S = 2.5
"""A picture that is shown for longer is named; the longest GOP that a camera can be set to is 2 s."""
SHORT_S = Fraction(1, 250)
"""Nobody sees a picture that is shown for less, and a camera films at most 120 a second. Single ones are named, as
times of a camera may bunch behind a stall; half of a GOP is a failure.
"""
_VIDEO, _SOUND = "vide", "soun"


@dataclass(frozen=True, slots=True)
class Presentation:
    """problems: why the file shows something else than was filmed; notes: what one should know. Full sentences."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def other_tracks(movie: Movie) -> str | None:
    """Why this is no file of one video track and sound, as a sentence; None when it is."""
    kinds = [track.handler for track in movie.tracks]
    if kinds.count(_VIDEO) == 1 and all(kind in (_VIDEO, _SOUND) for kind in kinds):
        problem = video_track(movie).problem
        return f"Not all that its video track shows is in this file: {problem}." if problem else None
    listed = ", ".join(f"{number}: {_KINDS.get(kind, f'unknown ({kind})')}" for number, kind in enumerate(kinds, 1))
    return (
        f"This file has not one video track and sound, but others (track {listed or 'none'}), "
        "so what a player shows need not be what was signed. A copy with one track can be checked: "
        "ffmpeg -i FILE -map 0:v:0 -map 0:a? -c copy COPY.mp4."
    )


_KINDS = {_VIDEO: "video", _SOUND: "sound", "text": "text", "sbtl": "subtitles", "subt": "subtitles"}


def video_track(movie: Movie) -> Track:
    """The one; `other_tracks` has said that there is one."""
    return next(track for track in movie.tracks if track.handler == _VIDEO)


class PresentationReader:
    """For one file. Takes its pictures in the order in which FFmpeg gives them out, before any edit list."""

    def __init__(self, movie: Movie) -> None:
        """`movie` has one video track."""
        self._movie = movie
        self._track = video_track(movie)
        self._problems: list[str] = []
        self._more: dict[str, int] = {}
        self._notes: list[str] = []
        self._pictures = 0
        self._keyframes = 0
        self._first: Fraction | None = None
        self._last = Fraction(0)
        self._duration = Fraction(0)
        self._position = -1
        self._gop_start = Fraction(0)
        self._gop_pictures = self._gop_short = self._short = 0
        self._first_gop_end: Fraction | None = None

    def picture(
        self, shown_s: Fraction | None, duration_s: Fraction, position: int | None, *, is_keyframe: bool
    ) -> None:
        """The next one. position: of its first byte in the file."""
        self._pictures += 1
        if position is not None:
            if position <= self._position:
                self._problem("stored", "The file plays pictures in another order than it stores them", shown_s)
            self._position = position
        if shown_s is None:
            self._problem("none", "The file does not say when a picture is to be shown", None)
            return
        if self._first is None:
            self._first = self._gop_start = shown_s
        elif shown_s == self._last:
            self._problem("zero", "A picture is shown for 0 s, so that nobody sees it", shown_s)
        elif shown_s < self._last:
            self._problem("back", "A picture is shown before the one that was filmed before it", shown_s)
        else:
            self._note_long(self._last, shown_s - self._last)
            self._gop_short += shown_s - self._last < SHORT_S
        if is_keyframe and self._gop_pictures:
            self._end_gop(shown_s)
        self._gop_pictures += 1
        self._last, self._duration = shown_s, duration_s

    def end(self) -> Presentation:
        """Nothing follows."""
        if self._first is None:
            return Presentation(tuple(self._problems))
        self._note_long(self._last, self._duration)
        self._end_gop(self._last + self._duration)
        if self._short:
            self._notes.append(f"{self._short} picture(s) are shown for less than {float(SHORT_S) * 1000:.0f} ms.")
        self._judge_edits(self._first)
        more = [f"And {count} more like that." for count in self._more.values() if count]
        return Presentation((*self._problems, *more), tuple(self._notes))

    def _end_gop(self, end_s: Fraction) -> None:
        if self._first_gop_end is None:
            self._first_gop_end = end_s
        if self._gop_short and 2 * self._gop_short >= self._gop_pictures:
            what = f"{self._gop_short} of a GOP's {self._gop_pictures} pictures are shown too short to be seen"
            self._problem("short", what, self._gop_start)
        self._short += self._gop_short
        self._gop_start, self._gop_pictures, self._gop_short = end_s, 0, 0

    def _note_long(self, since_s: Fraction, duration_s: Fraction) -> None:
        if duration_s > LONG_S and len(self._notes) < MAX_LISTED:
            self._notes.append(f"The picture at {float(since_s):.3f} s stands still for {float(duration_s):.3f} s.")

    def _problem(self, kind: str, what: str, at_s: Fraction | None) -> None:
        if kind in self._more:
            self._more[kind] += 1
            return
        self._more[kind] = 0
        where = "" if at_s is None else f", at {float(at_s):.3f} s"
        self._problems.append(f"{what} (picture {self._pictures} of the file{where}).")

    # -- edit list --------------------------------------------------------------------------------------------

    def _judge_edits(self, first_s: Fraction) -> None:
        edits = list(self._track.edits)
        if not edits:
            return
        offset_s = max(Fraction(LONG_S), (self._first_gop_end or first_s) - first_s)
        if edits[0].media_time == EMPTY_EDIT and self._seconds(edits[0]) <= offset_s:
            edits.pop(0)
        if len(edits) != 1 or edits[0].media_time < 0:
            self._problems.append(
                f"An edit list of {len(self._track.edits)} entries says which parts of the video are shown, and in "
                "which order; a film as it came from the camera is shown in one run."
            )
            return
        (edit,) = edits
        if not edit.plain_rate:
            self._problems.append("An edit list stops the video or plays it at another speed.")
        begin_s = Fraction(edit.media_time, self._track.timescale)
        if self._first_gop_end is not None and begin_s > self._first_gop_end:
            self._problems.append(
                f"An edit list hides what comes before {float(begin_s):.3f} s, which is more than the first GOP."
            )
        elif begin_s > first_s:
            self._notes.append(
                f"It is shown from {float(begin_s - first_s):.3f} s behind its first picture on, as a copy is that was "
                "cut between keyframes."
            )
        if edit.duration == 0 and self._movie.is_fragmented:
            return  # ISO/IEC 14496-12, 8.6.6.1: to the end of all fragments
        # A duration is rounded to the movie's timescale, which is often 1/1000 s.
        end_s = begin_s + self._seconds(edit) + Fraction(1, self._movie.timescale)
        if end_s < self._last:
            self._problems.append(
                f"An edit list hides what comes behind {float(end_s):.3f} s; the last picture is of "
                f"{float(self._last):.3f} s."
            )

    def _seconds(self, edit: Edit) -> Fraction:
        return Fraction(edit.duration, self._movie.timescale)
