import pytest

from pipeline.sources.losses import Losses, missed_packets


def held(
    pictures: list[tuple[int, bool]], *, losses: dict[int, int], step: float = 0.1, corrupt: tuple[int, ...] = ()
) -> list[int]:
    """Numbers of the pictures that are held back; ``losses`` by the number of pictures shown when they are noted."""
    state, out = Losses(), []
    for shown, (number, is_key) in enumerate(pictures):
        if shown in losses:
            state.note(losses[shown])
        if state.holds(number, seconds=shown * step, is_key=is_key, is_corrupt=number in corrupt):
            out.append(number)
    return out


def gops(count: int, length: int) -> list[tuple[int, bool]]:
    return [(number, number % length == 0) for number in range(count)]


def test_without_a_loss_nothing_is_held_back() -> None:
    assert held(gops(50, 10), losses={}) == []


def test_from_a_loss_to_the_next_key_frame_all_is_held_back() -> None:
    assert held(gops(50, 10), losses={13: 13}) == list(range(13, 20))


def test_a_key_frame_that_is_not_whole_ends_nothing() -> None:
    assert held(gops(50, 10), losses={13: 13, 20: 20}) == list(range(13, 30))


def test_a_loss_says_nothing_of_what_was_decoded_before_it() -> None:
    b_frames = [(0, True), (2, False), (1, False), (4, False), (3, False), (5, True)]
    assert held(b_frames, losses={1: 2}) == [2, 4, 3]
    assert held(b_frames, losses={1: 3}) == [4, 3]


def test_a_second_loss_does_not_hide_the_first() -> None:
    assert held([(0, True), (1, False), (2, False), (3, True), (4, False)], losses={1: 1, 2: 4}) == [1, 2, 4]


def test_what_is_shown_before_a_key_frame_may_be_made_from_what_was_lost() -> None:
    open_gop = [(0, True), (1, False), (3, False), (4, False), (2, True), (5, False)]
    assert held(open_gop, losses={1: 1}) == [1, 3, 4]


def test_a_stream_is_not_believed_before_its_first_key_frame() -> None:
    assert held([(0, False), (1, False), (2, True), (3, False)], losses={}) == [0, 1]


@pytest.mark.parametrize("corrupt", [(), tuple(range(1000))])
def test_a_stream_without_key_frames_is_back_after_ten_seconds(corrupt: tuple[int, ...]) -> None:
    lost = held([(number, False) for number in range(400)], losses={200: 200}, corrupt=corrupt)
    assert lost == [*range(100), *range(200, 300)]


def test_what_the_decoder_finds_is_a_loss() -> None:
    assert held(gops(30, 10), losses={}, corrupt=(14,)) == list(range(14, 20))


def test_ffmpegs_words_are_understood() -> None:
    said = [
        (24, "rtsp", "RTP: missed 3 packets\n"),
        (24, "rtsp", "max delay reached"),
        (24, "", "RTP: missed 1 packets"),
    ]
    assert missed_packets(said) == 4
