"""Numbers, places and disagreements as a person reads them."""

from __future__ import annotations

import pytest

from agent.verify.words import GLOSSARY, Said, SaidPlace, counted, disagreement, explained, listed, media_place


@pytest.mark.parametrize(
    ("ticks_90k", "place"),
    [
        (0, "00:00.000"),
        (90, "00:00.001"),
        (89, "00:00.000"),
        (90_000 * 61 + 45_000, "01:01.500"),
        (90_000 * 3600 * 12, "12:00:00.000"),
        (-90_000, "-00:01.000"),
    ],
)
def test_places_are_as_players_show_them(ticks_90k: int, place: str) -> None:
    assert media_place(ticks_90k) == place


def test_numbers_and_lists() -> None:
    assert (counted(1, "record"), counted(0, "record"), counted(2, "record was", "records were")) == (
        "1 record", "0 records", "2 records were",
    )  # fmt: skip
    assert [listed(texts) for texts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_only_what_differs_is_named() -> None:
    assert disagreement([Said("frames", 3, 3)]) is None
    assert disagreement([Said("frames", 3, 1), Said("bytes", 7, 7), Said("the number {}", None, 2)]) == (
        "3 frames and the number nothing", "1 frame and the number 2",
    )  # fmt: skip


def test_places_that_differ_by_less_than_what_is_shown_still_differ() -> None:
    assert disagreement([SaidPlace("an end at {}", 90_000, 90_000)]) is None
    assert disagreement([SaidPlace("an end at {}", 90_000, 180_000)]) == ("an end at 00:01.000", "an end at 00:02.000")
    assert disagreement([SaidPlace("an end at {}", 90_000, 90_001)]) == (
        "an end at 00:01.000 (90000 ticks of 1/90000 s)", "an end at 00:01.000 (90001 ticks of 1/90000 s)",
    )  # fmt: skip
    assert disagreement([SaidPlace("an end at {}", None, 0)]) == ("an end at no place", "an end at 00:00.000")


def test_words_are_explained_when_they_were_said() -> None:
    assert [word for word, _ in explained("Fragments of GOPs, checkpointed; recordings.")] == ["fragment", "GOP"]
    assert explained("Nothing of it.") == []
    assert all(not meaning.endswith(".") for meaning in GLOSSARY.values())
