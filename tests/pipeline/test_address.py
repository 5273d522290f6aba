import logging
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import address
from pipeline.address import hide_secrets, hide_urls, is_live, without_secrets
from pipeline.cli import main
from pipeline.config import Config, apply_overrides, from_sources, load
from pipeline.errors import PipelineError, UsageError
from pipeline.sources.connection import StreamSettings
from pipeline.sources.live import LiveSource
from pipeline.sources.open import open_source
from reid.modality import Modality


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.1:554/s1", "rtsp://***@10.0.0.1:554/s1"),
        ("rtsp://admin@10.0.0.1/s1", "rtsp://***@10.0.0.1/s1"),
        ("RTSPS://a:p@ss@word@10.0.0.1/s1", "RTSPS://***@10.0.0.1/s1"),
        ("http://10.0.0.1/v?user=admin&pwd=secret#x", "http://10.0.0.1/v?***"),
        ("http://10.0.0.1/v?t0ken", "http://10.0.0.1/v?***"),
        ("http://a:b@[::1]:80/v?t=1;u=2", "http://***@[::1]:80/v?***"),
        ("https://10.0.0.1/~a@b", "https://***@b"),  # an address that could be read both ways hides too much
        ("rtsp://a:p#w@10.0.0.1/s1", "rtsp://***"),  # as does one whose host is not certain
        ("rtsp://a:p?w@10.0.0.1/s1", "rtsp://***"),
        ("rtsp://a:p/w@10.0.0.1/s1", "rtsp://***"),
        ("http://10.0.0.1/v?pwd=s@cret", "http://***"),
        ("http://10.0.0.1/v#token=t0ken&x", "http://10.0.0.1/v#***"),
        (
            "rtsp://10.0.0.1:554/user=admin&password=secret&channel=1&stream=0.sdp",
            "rtsp://10.0.0.1:554/user=***",
        ),
        ("rtsps://10.0.0.1:7441/Xq3fZkT9aBcD1eF2?enableSrtp", "rtsps://10.0.0.1:7441/***?***"),
        ("rtsp://10.0.0.1/live/550e8400-E29B-41d4-a716-446655440000/1", "rtsp://10.0.0.1/live/***/1"),
        ("rtsp://a:b@10.0.0.1/9f86d081884c7d659a2feaa0c55ad015.sdp", "rtsp://***@10.0.0.1/***"),
        ("rtsp://10.0.0.1/Streaming/tracks/101/S3cr3tPw", "rtsp://10.0.0.1/Streaming/tracks/101/***"),
        ("rtsp://10.0.0.1/token/secret/1?a=1", "rtsp://10.0.0.1/token/***"),
        ("rtsp://10.0.0.1/live;session=secret", "rtsp://10.0.0.1/live;session=***"),
        ("https://10.0.0.1/v.m3u8;sig=secret", "https://10.0.0.1/v.m3u8;sig=***"),
        ("rtsp://10.0.0.1/s1", "rtsp://10.0.0.1/s1"),
        (" rtsp://admin:secret@10.0.0.1/s1", "***@10.0.0.1/s1"),
        ("rtsp//admin:secret@10.0.0.1/s1", "***@10.0.0.1/s1"),
        ("admin:secret@10.0.0.1/s1", "***@10.0.0.1/s1"),
        ("http:/10.0.0.1/v?t0ken", "http:/10.0.0.1/v?***"),
        ("10.0.0.1/v?auth2=t0ken", "10.0.0.1/v?auth2=***"),
        ("10.0.0.1/user=admin&password=secret", "10.0.0.1/user=***"),
        ("gone/gate #2 (no. ?).mp4", "gone/gate #2 (no. ?).mp4"),
        ("0", "0"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_user_password_and_query_values_are_hidden(source: str, shown: str) -> None:
    assert without_secrets(source) == shown


@pytest.mark.parametrize(
    "path",
    ["h264Preview_01_main", "Streaming/Channels/101", "cam/realmonitor", "axis-media/media.amp", "videoMain",
     "live/ch00_0", "LiveMedia/ch1/Media1/trackID=1", "ISAPI/Streaming/channels/101/httpPreview", "ch0_0.h264",
     "avstream/channel=1/stream=0.sdp", "0/onvif/profile1/media.smp", "building3-floor2-cam12", "unicast/c1/s0/live",
     "H264Preview/1920x1080", "stream1/hls/index0001.m3u8", "mpeg4cif", "00408CABCDEF"],
)  # fmt: skip
def test_what_makers_and_people_call_a_stream_is_shown(path: str) -> None:
    assert without_secrets(f"rtsp://10.0.0.1/{path}") == f"rtsp://10.0.0.1/{path}"


@pytest.mark.parametrize(("length", "shown"), [(12, 0.30), (16, 0.11), (24, 0.01)])
def test_of_parts_that_are_random_as_many_are_shown_as_the_page_on_cameras_says(length: int, shown: float) -> None:
    numbers = random.Random(0)  # noqa: S311 (no secret)
    parts = ("".join(numbers.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length)) for _ in range(5000))
    share = sum(without_secrets(f"rtsp://10.0.0.1/{part}").endswith(part) for part in parts) / 5000
    assert share == pytest.approx(shown, abs=0.02)


@pytest.fixture
def of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_expanded", set())
    for name, value in (
        ("KEY", "Жmer"), ("URL", "rtsp://10.0.0.1/Жmer/1"), ("SITE", "10.0.0.1"), ("CHANNEL", "1"), ("PIN", "-4711")
    ):  # fmt: skip
        monkeypatch.setenv(name, value)


def loaded(folder: Path, *camera: str) -> Config:
    path = folder / "site.yaml"
    keys = "".join(f"    {each}\n" for each in camera)
    path.write_text(f"version: 1\nreid: {{weights: xreid-tiny}}\ncameras:\n  gate:\n{keys}")
    return load(path)


@pytest.mark.usefixtures("of_the_environment")
@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://${SITE}/a/${KEY}/${CHANNEL}", "rtsp://10.0.0.1/a/***/1"),
        ("rtsp://a:b@${SITE}/pre-${KEY}?x", "rtsp://***@10.0.0.1/***?***"),
        ("${URL}", "rtsp://10.0.0.1/***/***"),
        ("rtsp://${SITE}/Channels/101", "rtsp://10.0.0.1/Channels/101"),
    ],
)
def test_of_the_path_of_an_address_what_came_from_the_environment_is_hidden(
    tmp_path: Path, source: str, shown: str
) -> None:
    config = loaded(tmp_path, f"source: '{source}'", "modality: rgb")
    real = config.cameras["gate"].source
    assert without_secrets(real) == shown
    assert "Ж" not in config.model_dump_json() + repr(config)
    assert "Ж" not in hide_urls(f"{real}: lost") + hide_secrets("404 for Жmer" if "KEY" in source else "404", real)


@pytest.mark.usefixtures("of_the_environment")
@pytest.mark.parametrize(
    ("camera", "told"),
    [
        (["source: a.mp4", "modality: '${KEY}'"], "cameras.gate.modality: '${KEY}' is not one of rgb, nir, thermal"),
        (["source: a.mp4", "modality: 'a ${KEY}'"], "'a ${KEY}' is not one of"),
        (["source: ['${KEY}', {a: '${KEY}'}]", "modality: rgb"], "expected text, got ['${KEY}', {'a': '${KEY}'}]"),
        (["source: frames", "modality: rgb", "fps: ${PIN}"], "greater than or equal to 0.00001, got '${PIN}'"),
        (["source: frames", "modality: '${CHANNEL}'"], "'${CHANNEL}' is not one of"),
        (["source: a.mp4", "modality: rgb", "start_pattern: '${KEY}'"], "got '${KEY}'"),
    ],
)
def test_an_error_of_a_config_names_the_variable_in_place_of_its_value(
    tmp_path: Path, camera: list[str], told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, *camera)
    assert told in str(caught.value)
    assert "Ж" not in str(caught.value)


def test_the_path_of_what_is_there_is_shown_whole(tmp_path: Path) -> None:
    (tmp_path / "12:30 a@b_0001.png").touch()
    for name in ("12:30 a@b_0001.png", "12:30 a@b_%04d.png", "12:30 a@b_*.png"):
        for source in (f"{tmp_path}/{name}", f"file://{tmp_path}/{name}"):
            assert without_secrets(source) == source
    assert without_secrets(f"{tmp_path}/12:30 a@c*.png") == "***@c*.png"


# Ж stands for what is secret: no place, message or host has it, so a single one that is shown is found. The last ones
# are wide forms of !:/@? and one of a/c, which become those where a host is normalised.
ODD = "Ж0@:/?#[]%&=;,. '\"\\*+!$()<>{}|^~`-_\uff01\uff1a\uff0f\uff20\uff1f\u2100\t"
PASSWORDS = st.text(ODD, max_size=12).map(lambda text: f"{text}Ж")
PLACES = [
    "rtsp://admin:{}@10.0.0.1:554/s1", "RTSPS://admin:{}@[::1]/s1?channel=1", " rtsp://admin:{}@10.0.0.1/s1",
    "rtsp:/admin:{}@10.0.0.1/s1", "rtsp//admin:{}@10.0.0.1/s1", "rtsp:admin:{}@10.0.0.1/s1.png",
    "rtsp\uff1a//admin:{}@10.0.0.1/s1", "admin:{}@10.0.0.1/s1", "gopher://admin:{}@10.0.0.1/s1",
    "file://admin:{}@10.0.0.1/s1.mp4", "http://10.0.0.1/v?channel=1&pwd={}", "http://10.0.0.1/v#{}",
    "http:/10.0.0.1/v?{}", "rtsp://10.0.0.1/user=admin&password={}", "rtsp://10.0.0.1/user=admin&password={}&channel=1",
]  # fmt: skip
SOURCES = st.builds(str.format, st.sampled_from(PLACES), PASSWORDS)


def told_by(action: Callable[[], object]) -> str:
    """The error's text; nothing if there is none."""
    try:
        action()
    except PipelineError as error:
        return str(error)
    return ""


@given(SOURCES)
@example("rtsp://admin:Ж?Ж@10.0.0.1/s1")
@example("rtsp://admin:Ж/Ж@10.0.0.1/s1?a@b")
def test_no_password_whatever_its_characters_is_ever_shown(source: str) -> None:
    shown = without_secrets(source)
    assert "Ж" not in shown
    assert without_secrets(shown) == shown
    assert "Ж" not in hide_secrets(f"{source!r}: 404 for {source}, {source.strip()}", source)


@given(SOURCES)
def test_no_error_of_a_config_shows_a_password(source: str) -> None:
    texts = [
        told_by(lambda: open_source("gate", from_sources([f"gate={source}"]).cameras["gate"])),
        told_by(lambda: from_sources([source])),
        told_by(lambda: from_sources(["gate=a.mp4", f"dock:{source}"])),
        told_by(lambda: apply_overrides({"cameras": 1}, [f"cameras.gate.source={source}"])),
        *(
            told_by(partial(from_sources, ["gate=a.mp4"], overrides=[data]))
            for data in (
                f"cameras.gate={source!r}", f"cameras.gate.source=[{source!r}]", f"cameras.gate.fps={source!r}",
                f"cameras.gate.modality={source!r}", f"cameras.gate.zones={{{source!r}: 1}}",
            )
        ),
    ]  # fmt: skip
    assert not [text for text in texts if "Ж" in text]
    try:
        config = from_sources([f"gate={source}"])
    except PipelineError:
        return
    assert "Ж" not in config.model_dump_json() + repr(config)


@given(st.sampled_from([place for place in PLACES if place.startswith(("rtsp://", "gopher://"))]), PASSWORDS)
def test_no_text_shows_the_password_of_an_address_in_it(place: str, password: str) -> None:
    if "://" in password or "@" not in place:  # in a text, another address may begin with one
        return
    assert "Ж" not in hide_urls(f"fault: '{place.format(password)}' failed, http://127.0.0.1:8000. No more.")


def test_a_text_keeps_what_is_no_secret() -> None:
    text = "listening on http://127.0.0.1:8000, and http://[::1]:80; [h264 @ 0x1] 'rtsp://***@10.0.0.1/s': closed."
    assert hide_urls(text) == text
    assert hide_urls("rtsp://a:b c@10.0.0.1/s: lost, then rtsp://d:e@10.0.0.2:554: lost") == (
        "rtsp://***@10.0.0.1/s: lost, then rtsp://***@10.0.0.2:554: lost"
    )


@pytest.mark.parametrize("before", ["", "1", "-", "_", "[", "see:", "a" * 50])
def test_an_address_in_a_text_may_begin_anywhere(before: str) -> None:
    assert hide_urls(f"{before}rtsp://admin:secret@10.0.0.1/s") == f"{before}rtsp://***@10.0.0.1/s"


@pytest.mark.parametrize(
    "password", ["Ж#2024", "Ж?2024", "Ж/mer", "Ж[mm]er", "Ж\u2100", "2024#Ж", "2024/Ж", "Ж@2024", "Ж'\\"]
)
@pytest.mark.parametrize("colon", [":", "\uff1a"])
def test_a_camera_that_cannot_be_reached_tells_no_password(
    password: str, colon: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = LiveSource(
        "gate", f"rtsp://nobody.invalid{colon}{password}@127.0.0.1:9/s", Modality.RGB,
        settings=StreamSettings(timeout_seconds=1),
    )  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        told = told_by(source.probe)
    assert told.startswith("camera gate: rtsp://***")
    assert "Ж" not in told + caplog.text
    assert "nobody.invalid" not in told


def test_an_address_that_cannot_be_read_says_how_to_write_it() -> None:
    for password in ("Summer#2024", "2024/Summer"):
        told = told_by(LiveSource("gate", f"rtsp://nobody.invalid:{password}@127.0.0.1/s", Modality.RGB).probe)
        assert "percent-encode special characters in its user and password, such as # as %23" in told


def test_a_mistyped_address_is_named_without_its_password() -> None:
    camera = from_sources(["gate=rtsp:/admin:secret@10.0.0.1/s1"]).cameras["gate"]
    assert told_by(lambda: open_source("gate", camera)).startswith(
        "camera gate: ***@10.0.0.1/s1: no such file or folder; what stands before an @ is hidden, and an address begins"
    )


def test_blanks_around_a_source_are_no_part_of_it() -> None:
    config = from_sources(["gate= rtsp://admin:secret@10.0.0.1/s1 "])
    assert config.cameras["gate"].source == "rtsp://admin:secret@10.0.0.1/s1"
    assert config.cameras["gate"].live


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "--source", "gate=admin:Ж?Ж@10.0.0.1/s"],
        ["validate", "--source", "gate=rtsp://admin:Ж/Ж@10.0.0.1/s"],
        ["validate", "--sauce", "gate=rtsp://admin:Ж@10.0.0.1/s"],
        ["rtsp://admin:Ж@10.0.0.1/s"],
        ["validate", "--config", "rtsp://admin:Ж@10.0.0.1/s"],
    ],
)
def test_no_command_prints_a_password(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):
        main(arguments)
    out, err = capfd.readouterr()
    assert out + err
    assert "Ж" not in out + err


def test_a_fault_in_the_log_shows_no_password(capfd: pytest.CaptureFixture[str]) -> None:
    main(["validate", "--source", "gate=a.mp4"])
    try:
        raise ValueError("rtsp://admin:Ж@10.0.0.1/s is none")
    except ValueError as error:
        logging.getLogger("pipeline.test").error("a camera's stream met a fault", exc_info=error)
    told = capfd.readouterr().err
    assert "ValueError: rtsp://***@10.0.0.1/s is none" in told
    assert "Ж" not in told


def test_a_strangers_text_tells_no_secret_in_any_spelling() -> None:
    source = "rtsp://admin:p%40ss-w0rd@10.0.0.1/s1?token=t0ken"
    text = f"{source} failed: p@ss-w0rd rejected, p%40ss-w0rd, rtsp://other:pw@10.0.0.2/x, token t0ken"
    assert hide_secrets(text, source) == (
        "rtsp://***@10.0.0.1/s1?*** failed: *** rejected, ***, rtsp://***@10.0.0.2/x, token ***"
    )
    made_up = "rtsps://10.0.0.1:7441/Xq3fZkT9aBcD1eF2"
    assert hide_secrets("404 for Xq3fZkT9aBcD1eF2", made_up) == "404 for ***"
    in_path = "rtsp://10.0.0.1/user=admin&password=hunter2&channel=1.sdp"
    assert hide_secrets("401 for hunter2", in_path) == "401 for ***"


@pytest.mark.parametrize(
    "source",
    ["rtsp://a/b", "RTSPS://a/b", "http://a/b", "https://a", "0", "12", "/dev/video0", "/dev/front-door",
     "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_1A2B3C4D-video-index0",
     "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0"],
)  # fmt: skip
def test_streams_and_devices_are_live(source: str) -> None:
    assert is_live(source)


@pytest.mark.parametrize(
    "source",
    ["a.mp4", "rtsp", "/devices/a.mp4", "file:///a.mp4", "gopher://a", "00:12.mp4", "/dev/fd/3", "dev/a",
     "/dev/shm/a.mp4"],  # noqa: S108 (nothing is written)
)  # fmt: skip
def test_files_are_not(source: str) -> None:
    assert not is_live(source)
