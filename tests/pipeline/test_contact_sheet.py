"""The contact sheet: as big as its rows, right and wrong in their colours, rows chosen by a stated rule."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.contact_sheet import CORRECT, WRONG, Match, Row, SheetRules, SheetText, View, draw, rows_of, write_matches
from pipeline.store import Store
from reid.modality import Modality
from tests.pipeline.factories import CALIBRATION, NOON, axis, open_store, sighting_of, tracklet_of, unit

TEXT = SheetText("Found again", ("One sentence that says what one sees.",))


def view(modality: Modality) -> View:
    return View(np.full((60, 30, 3), 120, np.uint8), "gate", modality, NOON)


def row(*verdicts: bool | None) -> Row:
    matches = [Match(view(Modality.NIR), 0.8, 0.9, verdict) for verdict in verdicts]
    return Row(view(Modality.RGB), {Modality.NIR: matches})


def count(sheet: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((sheet == colour).all(axis=-1).sum())


def test_each_row_adds_the_same_height_and_each_match_a_column() -> None:
    heights = [draw([row(True, False)] * n, TEXT).shape[0] for n in (1, 2, 3)]
    assert heights[2] - heights[1] == heights[1] - heights[0] > 200
    assert draw([row(*[True] * 9)], TEXT).shape[1] > draw([row(*[True] * 7)], TEXT).shape[1]


def test_right_is_green_and_wrong_is_red_and_nothing_is_judged_without_truth() -> None:
    right, wrong, open_ = (draw([row(*[verdict] * 3)], TEXT) for verdict in (True, False, None))
    legend = count(right, WRONG)  # the legend explains both colours
    assert count(right, CORRECT) > 10 * legend
    assert count(wrong, WRONG) > 10 * count(wrong, CORRECT)
    assert count(open_, CORRECT) == count(open_, WRONG) == 0


def test_longer_notes_make_a_higher_header() -> None:
    long = SheetText("Found again", ("word " * 200,))
    assert draw([row(True)], long).shape[0] > draw([row(True)], TEXT).shape[0] + 100


def test_no_rows_make_a_sheet_that_says_so() -> None:
    assert draw([], TEXT).any()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """25 people at the gate; those of even number also in the yard at night, in three directions of looks."""
    made = open_store(tmp_path)
    for n in range(25):
        vector = unit(*(axis(n % 3) + 0.01 * n * axis(3)))
        made.add(sighting_of(tracklet_of(f"gate-{n}", at=10 * n), person=n + 1, vector=vector))
        if n % 2 == 0:
            night = tracklet_of(f"yard-{n}", modality=Modality.THERMAL, at=1000 + 10 * n)
            made.add(sighting_of(night, person=n + 1, vector=vector))
    return made


def test_rows_are_every_nth_person_by_first_appearance_and_the_sheet_says_so(store: Store) -> None:
    with store:
        rows, how = rows_of(store, CALIBRATION)
        assert "every 3rd person by first appearance in RGB (9 of 25)" in how
        assert [(each.query.start - NOON).total_seconds() for each in rows] == [30.0 * n for n in range(9)]
        rows, how = rows_of(store, CALIBRATION, rules=SheetRules(most_rows=30, per_modality=2))
        assert "every person" in how
        assert {len(each.matches[Modality.THERMAL]) for each in rows} == {2}


def test_truth_decides_what_is_right_and_who_was_never_there(store: Store) -> None:
    truth = {each.tracklet_id: int(each.tracklet_id.split("-")[1]) for each in store.tracklets()}
    with store:
        rows, _ = rows_of(store, CALIBRATION, truth=truth, rules=SheetRules(most_rows=25))
        for n, each in enumerate(rows):
            first = each.matches[Modality.THERMAL][0]
            assert first.correct is (n % 2 == 0)
            assert each.absent == (frozenset() if n % 2 == 0 else frozenset({Modality.THERMAL}))
            assert all(match.correct is not None for match in each.matches[Modality.THERMAL])
        # A tracklet that is no true person's is neither a query nor ever right.
        del truth["gate-0"]
        del truth["yard-2"]
        rows, _ = rows_of(store, CALIBRATION, truth=truth, rules=SheetRules(most_rows=25))
        assert len(rows) == 24
        assert not any(match.correct for match in rows[1].matches[Modality.THERMAL])


def test_with_the_truth_the_sheet_says_how_often_the_nearest_is_right(
    store: Store, tmp_path: Path, texts: list[SheetText]
) -> None:
    """Every 3rd of 25 is shown, 9; five of them were there at night, found by equal vectors, but two swap."""
    truth = {each.tracklet_id: int(each.tracklet_id.split("-")[1]) for each in store.tracklets()}
    truth["yard-0"], truth["yard-6"] = truth["yard-6"], truth["yard-0"]
    with store:
        write_matches(tmp_path / "matches.png", store, CALIBRATION, truth=truth)
    assert "the nearest is the same person: 3 of 5 in THERMAL" in " ".join(texts[0].notes)


def test_the_file_is_whole_and_synthetic_is_written_where_said(store: Store, tmp_path: Path) -> None:
    with store:
        write_matches(tmp_path / "matches.png", store, CALIBRATION)
        plain = cv2.imread(str(tmp_path / "matches.png"))
        write_matches(tmp_path / "matches.png", store, CALIBRATION, note="The people are synthetic.")
        noted = cv2.imread(str(tmp_path / "matches.png"))
    assert plain is not None
    assert noted is not None
    assert noted.shape[0] == plain.shape[0] + 20


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[SheetText]:
    """The words of the sheets that are drawn."""
    found: list[SheetText] = []
    monkeypatch.setattr("pipeline.contact_sheet.draw", lambda rows, text: (found.append(text), draw(rows, text))[1])
    return found


def test_a_single_modality_has_nothing_to_match_and_the_sheet_says_that_and_no_more(
    tmp_path: Path, texts: list[SheetText]
) -> None:
    with open_store(tmp_path) as store:
        assert rows_of(store, CALIBRATION) == ([], "Nobody was seen.")
        store.add(sighting_of(tracklet_of("gate-A")))
        write_matches(tmp_path / "matches.png", store, CALIBRATION)
        store.add(sighting_of(tracklet_of("hall-A")))
        write_matches(tmp_path / "matches.png", store, CALIBRATION)
    assert (tmp_path / "matches.png").is_file()
    assert [text.title for text in texts] == ["Nobody to compare across modalities"] * 2
    why = "Everybody was seen in RGB alone ({}), and this picture shows who looks alike in another modality. "
    then = "A search finds people again within one."
    assert [text.notes for text in texts] == [
        (why.format("camera gate") + then,), (why.format("cameras gate, hall") + then,)
    ]  # fmt: skip


def test_where_the_truth_knows_none_of_the_queries_the_sheet_says_so(
    store: Store, tmp_path: Path, texts: list[SheetText]
) -> None:
    with store:
        write_matches(tmp_path / "matches.png", store, CALIBRATION, truth={"yard-0": 1})
    assert texts[0].notes == ("By ground truth, no tracklet in RGB is anybody's.",)
