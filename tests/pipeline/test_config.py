import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from pipeline.config import Config, apply_overrides, from_sources, load, parse_time, schema
from pipeline.errors import UsageError
from reid.modality import Modality

REPOSITORY = Path(__file__).resolve().parents[2]
SMALLEST = "version: 1\ncameras:\n  gate: {source: a.mp4, modality: rgb}\nreid: {weights: xreid-tiny}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(text)
    return path


def errors_of(folder: Path, text: str) -> list[str]:
    """The lines of the error, without the folder's name."""
    with pytest.raises(UsageError) as caught:
        load(write(folder, text))
    assert caught.value.exit_code == 2
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def test_the_smallest_file_has_all_defaults(tmp_path: Path) -> None:
    config = load(write(tmp_path, SMALLEST))
    assert config.cameras["gate"].modality is Modality.RGB
    assert config.detector.backend == "motion"
    assert config.output.root == Path("runs/latest")


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    config = load(write(tmp_path, SMALLEST))
    with pytest.raises(ValidationError, match="frozen"):
        config.reid.batch = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            SMALLEST.replace("rgb", "termal"),
            "site.yaml:3: cameras.gate.modality: 'termal' is not one of rgb, nir, thermal; did you mean thermal?",
        ),
        (SMALLEST + "trackr: {}\n", "site.yaml:5: trackr: unknown key; did you mean tracker?"),
        (
            SMALLEST + "tracker:\n  high_confidence: 0.5\n  new_confidance: 0.6\n",
            "site.yaml:7: tracker.new_confidance: unknown key; did you mean new_confidence?",
        ),
        (
            SMALLEST + "site: {zzz: 1}\n",
            "site.yaml:5: site.zzz: unknown key; known here: name, timezone",
        ),
        (
            SMALLEST.replace("gate", "Gate-1"),
            "site.yaml:3: cameras.Gate-1: camera id 'Gate-1' must be of a-z, 0-9 and _",
        ),
        (
            SMALLEST.replace("xreid-tiny", ""),
            "site.yaml:4: reid.weights: is required: a checkpoint file, or xreid-tiny for the embedded one",
        ),
        (
            SMALLEST.replace("{weights: xreid-tiny}", "{}"),
            "site.yaml:4: reid.weights: is required: a checkpoint file, or xreid-tiny for the embedded one",
        ),
        (
            SMALLEST + "detector: {batch: 0}\n",
            "site.yaml:5: detector.batch: input should be greater than or equal to 1, got 0",
        ),
        (SMALLEST + "detector: {batch: '8'}\n", "site.yaml:5: detector.batch: expected a whole number, got '8'"),
        (
            SMALLEST + "detector: {device: gpu}\n",
            "site.yaml:5: detector.device: 'gpu' is not one of auto, cpu, cuda, cuda:0",
        ),
        (SMALLEST + "detector: 3\n", "site.yaml:5: detector: expected a section with keys below it, got 3"),
        (
            SMALLEST + "site: {timezone: Europe/Belin}\n",
            "site.yaml:5: site.timezone: 'Europe/Belin' is not an IANA timezone; did you mean Europe/Berlin?",
        ),
        (
            SMALLEST.replace("modality: rgb", "modality: rgb, start: 2026-06-01T08:00:00"),
            "site.yaml:3: cameras.gate.start: must be a time with its offset, such as 2026-06-01T08:00:00Z, "
            "got '2026-06-01 08:00:00'",
        ),
        (
            SMALLEST + "detector: {backend: onnx}\n",
            "site.yaml:5: detector.weights: no file given, and the onnx backend needs one; motion needs none",
        ),
        (
            SMALLEST + "detector: {weights: yolox.onnx}\n",
            "site.yaml:5: detector.weights: yolox.onnx is given, but the motion backend has no network; leave it out, "
            "or set backend to onnx or ultralytics",
        ),
        (
            SMALLEST + "detector: {backend: motion, input_size: 640}\n",
            "site.yaml:5: detector.input_size: 640 is given, but the motion backend has no network; leave it out, ",
        ),
        (SMALLEST.replace("version: 1", "version: 2"), "site.yaml:1: version: 2 is not one of 1"),
        (
            SMALLEST + "tracker: {high_confidence: 0.9}\n",
            "site.yaml:5: tracker.high_confidence: low_confidence <= high_confidence <= new_confidence must hold, got "
            "0.1, 0.9, 0.65",
        ),
        (
            SMALLEST.replace("modality: rgb", "modality: rgb, thermal: {low: 1, high: 2}"),
            "site.yaml:3: cameras.gate.thermal: is for cameras whose modality is thermal, this one is rgb",
        ),
        (
            SMALLEST.replace("modality: rgb", "modality: thermal, thermal: {low: 1}"),
            "site.yaml:3: cameras.gate.thermal.low: is given without high; give both, or neither for automatic limits",
        ),
        (
            SMALLEST.replace("modality: rgb", "modality: thermal, thermal: {low: 9, high: 2}"),
            "site.yaml:3: cameras.gate.thermal.low: must be below high, got 9 and 2",
        ),
        (
            "version: 1\ncameras: {}\nreid: {weights: xreid-tiny}\n",
            "site.yaml:2: cameras: must name at least one camera",
        ),
        (
            SMALLEST + "tracker: {lost_seconds: 5}\n",
            "site.yaml:5: tracker.lost_seconds: must not exceed tracklets.max_gap_seconds (2), got 5: "
            "a track found again continues its tracklet",
        ),
        (
            SMALLEST + "tracker: {name: sort, sort: {lost_seconds: 5}}\n",
            "site.yaml:5: tracker.sort.lost_seconds: must not exceed tracklets.max_gap_seconds (2), got 5: "
            "a track found again continues its tracklet",
        ),
        (
            SMALLEST + "tracker: {name: bytetrac}\n",
            "site.yaml:5: tracker.name: 'bytetrac' is not one of cautious, bytetrack, botsort, sort, ocsort; "
            "did you mean bytetrack?",
        ),
        (
            SMALLEST + "tracker: {name: bytetrack, high_confidence: 0.5}\n",
            "site.yaml:5: tracker.high_confidence: is a setting of cautious; those of bytetrack are below "
            "tracker.bytetrack: high_confidence, low_confidence, new_confidence, first_overlap, second_overlap, "
            "new_overlap, lost_seconds, fuse_confidence; did you mean tracker.bytetrack.high_confidence?",
        ),
        (
            SMALLEST + "tracker: {sort: {min_overlap: 0.2}}\n",
            "site.yaml:5: tracker.sort: its settings are given, but tracker.name is cautious",
        ),
        (
            SMALLEST + "tracker: {name: botsort, botsort: {high_confidence: 0.9}}\n",
            "site.yaml:5: tracker.botsort.high_confidence: low_confidence <= high_confidence <= new_confidence must "
            "hold, got 0.1, 0.9, 0.7",
        ),
        (
            SMALLEST.replace("modality: rgb", "modality: rgb, ground: {height_metres: 3}"),
            "site.yaml:3: cameras.gate.ground.height_metres: height_metres, tilt_degrees, focal_px and centre_px must "
            "be given together",
        ),
        (
            SMALLEST.replace(
                "modality: rgb",
                "modality: rgb, ground: {estimate: true, homography: [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}",
            ),
            "site.yaml:3: cameras.gate.ground.homography: estimate is given too; give estimate, homography, or the "
            "camera's height_metres and tilt_degrees; only one",
        ),
        (
            SMALLEST.replace("modality: rgb", "modality: rgb, ground: {homography: [[1, 0], [0, 1]]}"),
            "site.yaml:3: cameras.gate.ground.homography: must be 3 rows of 3 numbers, got [[1.0, 0.0], [0.0, 1.0]]",
        ),
        (
            SMALLEST.replace("modality: rgb", "modality: rgb, ground: {estimate: true}") + "tracker: {name: sort}\n",
            "site.yaml:3: cameras.gate.ground: only the tracker cautious looks at the floor, and tracker.name is sort",
        ),
        (
            SMALLEST + "version: 1\n",
            "site.yaml:5: version: given twice; the first is at ",
        ),
        ("", "site.yaml: expected keys such as version and cameras, got nothing"),
        ("3\n", "site.yaml: expected keys such as version and cameras, got one value"),
        ("!!python/object/apply:os.system [id]\n", "site.yaml: expected keys such as version and cameras, got a list"),
        (SMALLEST + "\0\n", "site.yaml:5: not valid YAML: the character U+0000 is not text"),
        (
            SMALLEST.replace("gate: {", "gate: {thermal: , "),
            "site.yaml:3: cameras.gate.thermal: expected a section with",
        ),
        (SMALLEST.replace("source: a.mp4", "source: "), "site.yaml:3: cameras.gate.source: is required: a video file"),
        (
            SMALLEST + "detector:\n  backend: onnx\n  weights:\n",
            "site.yaml:7: detector.weights: no file given, and the onnx backend needs one; motion needs none",
        ),
        ("- a\n", "site.yaml: expected keys such as version and cameras, got a list"),
        ("a: [\n", "site.yaml:2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: &x [*x]\n", "site.yaml:1: a.0: refers to itself"),
        (
            SMALLEST.replace("a.mp4", "'${NO_SUCH_VARIABLE}'"),
            "site.yaml:3: cameras.gate.source: environment variable NO_SUCH_VARIABLE is not set",
        ),
    ],
)
def test_each_mistake_has_one_line_that_says_where_and_what(tmp_path: Path, text: str, expected: str) -> None:
    (line,) = errors_of(tmp_path, text)
    assert line.startswith(expected)


LINES = """version: 1
cameras:
  gate:
    source: {source}
    modality: rgb
  hall:
    source: b.mp4
    modality: rgb
reid:
  weights: xreid-tiny
"""
BYTETRACK = (
    "high_confidence, low_confidence, new_confidence, first_overlap, second_overlap, new_overlap, lost_seconds, "
    "fuse_confidence"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "tracker:\n  low_confidence: 0.3\n  new_confidence: 0.2\n",
            "13: tracker.new_confidence: low_confidence <= high_confidence <= new_confidence must hold, ",
        ),
        (
            "tracker:\n  name: bytetrack\ntracklets:\n  min_frames: 5\n  max_gap_seconds: 0.3\n",
            "15: tracklets.max_gap_seconds: must be at least tracker.bytetrack.lost_seconds (1), got 0.3",
        ),
        (
            "tracker:\n  name: ocsort\n  ocsort:\n    lost_seconds: 7\n",
            "14: tracker.ocsort.lost_seconds: must not exceed tracklets.max_gap_seconds (2), got 7",
        ),
        (
            "ways:\n  - min_seconds: 1\n    typical_seconds: 2\n    between: [gate, hal]\n",
            "14: ways.0.between: 'hal' is not one of the cameras; did you mean hall?",
        ),
        (
            "ways:\n"
            "  - {between: [gate, hall], min_seconds: 1, typical_seconds: 2}\n"
            "  - {between: [hall, gate], min_seconds: 1, typical_seconds: 2}\n",
            "13: ways.1.between: hall and gate have two ways",
        ),
        (
            "ways:\n  - min_seconds: 1\n    between: [gate]\n    typical_seconds: 2\n",
            "13: ways.0.between: expected at least 2 entries, got 1",
        ),
        (
            "ways:\n  - min_seconds: 1\n    between: [a, b, c]\n    typical_seconds: 2\n",
            "13: ways.0.between: expected at most 2 entries, got 3",
        ),
        ("pairs:\n  yard: {}\n", "12: pairs.yard: must be the pair_id of two cameras, got 0"),
    ],
)
def test_what_does_not_go_together_is_told_at_the_line_of_a_key_that_was_given(
    tmp_path: Path, text: str, expected: str
) -> None:
    (line,) = errors_of(tmp_path, LINES.format(source="a.mp4") + text)
    assert line.startswith(f"site.yaml:{expected}")


@pytest.mark.parametrize(
    ("source", "keys", "expected"),
    [
        ("a.mp4", "thermal: {}", "thermal: is for cameras whose modality is thermal"),
        ("rtsp://a/b", "fps: 5", "fps: is for image sequences only"),
        ("rtsp://a/b", "stream: {backoff_seconds: 50}", "stream.backoff_seconds: must not exceed backoff_cap_seconds"),
        ("rtsp://a/b", "stream: {backoff_cap_seconds: 0.5}", "stream.backoff_cap_seconds: must be at least backoff_s"),
        ("a.mp4", "ground: {tilt_degrees: 3}", "ground.tilt_degrees: height_metres, tilt_degrees, focal_px and"),
        ("a.mp4", "ground: {homography: [[1, 0, 0], [1, 0, 0], [0, 0, 1]]}", "ground.homography: must be finite"),
    ],
)
def test_what_does_not_fit_a_camera_is_told_at_the_line_of_its_key(
    tmp_path: Path, source: str, keys: str, expected: str
) -> None:
    text = LINES.format(source=source).replace("modality: rgb", f"modality: rgb\n    {keys}", 1)
    (line,) = errors_of(tmp_path, text)
    assert line.startswith(f"site.yaml:6: cameras.gate.{expected}")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            "lost_second: 1",
            "lost_second: unknown key; did you mean tracker.bytetrack.lost_seconds? tracker.name is bytetrack, whose "
            f"settings are below tracker.bytetrack: {BYTETRACK}",
        ),
        (
            "first_overlap: 0.2",
            "first_overlap: unknown key; did you mean tracker.bytetrack.first_overlap? tracker.name is bytetrack, ",
        ),
        (
            "min_overlap: 0.3",
            "min_overlap: unknown key: a setting of sort and ocsort; tracker.name is bytetrack, whose settings are "
            f"below tracker.bytetrack: {BYTETRACK}",
        ),
        (
            "bytetrack: {min_overlap: 0.3}",
            "bytetrack.min_overlap: unknown key: a setting of sort and ocsort; the settings of bytetrack are: "
            f"{BYTETRACK}",
        ),
        (
            "bytetrack: {lost_second: 1}",
            "bytetrack.lost_second: unknown key; did you mean lost_seconds? the settings of bytetrack are: "
            f"{BYTETRACK}",
        ),
        ("bytetrak: {}", "bytetrak: unknown key; did you mean bytetrack?"),
    ],
)
def test_an_unknown_setting_of_a_tracker_says_whose_it_is_and_what_the_chosen_one_has(
    tmp_path: Path, keys: str, expected: str
) -> None:
    (line,) = errors_of(tmp_path, SMALLEST + f"tracker:\n  name: bytetrack\n  {keys}\n")
    assert line.startswith(f"site.yaml:7: tracker.{expected}")


def test_what_no_tracker_has_is_compared_with_the_settings_of_the_one_that_is_named(tmp_path: Path) -> None:
    (line,) = errors_of(tmp_path, SMALLEST + "tracker: {direction_weight: 0.1}\n")
    assert line.startswith(
        "site.yaml:5: tracker.direction_weight: unknown key: a setting of ocsort; tracker.name is ca"
    )
    name, setting = errors_of(tmp_path, SMALLEST + "tracker: {name: bytetrac, lost_second: 1}\n")
    assert "did you mean bytetrack?" in name
    assert setting == "site.yaml:5: tracker.lost_second: unknown key; which ones there are depends on tracker.name"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tracker.name=", "tracker.name: expected one of cautious, bytetrack, botsort, sort, ocsort, got nothing"),
        ("cameras.gate.modality=", "cameras.gate.modality: expected one of rgb, nir, thermal, got nothing"),
        ("ground=3", "ground: unknown key; did you mean cameras.NAME.ground?"),
        ("batch=4", "batch: unknown key; did you mean detector.batch or reid.batch?"),
        (
            "cameras.gate.ground=3",
            "cameras.gate.ground: expected a section with keys below it, got 3; known there: estimate, homography, "
            "height_metres, tilt_degrees, focal_px, centre_px",
        ),
    ],
)
def test_an_override_that_is_wrong_says_what_was_expected_and_what_came(
    tmp_path: Path, override: str, expected: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, SMALLEST), overrides=[override])
    assert str(caught.value) == f"--set: {expected}"


def test_a_track_waits_no_longer_than_a_tracklet_where_nothing_else_is_said(tmp_path: Path) -> None:
    short = load(write(tmp_path, SMALLEST + "tracklets: {max_gap_seconds: 0.8}\n"))
    assert short.tracker.lost_seconds == short.tracker.settings()["lost_seconds"] == 0.8
    assert load(write(tmp_path, SMALLEST)).tracker.lost_seconds == 1.5
    told = errors_of(tmp_path, SMALLEST + "tracklets: {max_gap_seconds: 0.8}\ntracker: {lost_seconds: 1.5}\n")
    assert len(told) == 1
    assert "tracklets.max_gap_seconds: must be at least tracker.lost_seconds (1.5), got 0.8" in told[0]


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_rate_of_a_video_file_is_refused_and_one_of_images_is_not(tmp_path: Path, prefix: str) -> None:
    text = SMALLEST.replace("modality: rgb", "modality: rgb, fps: 5")
    for name in ("gate.mp4", "1.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "day.2").mkdir()
    (line,) = errors_of(tmp_path, text.replace("a.mp4", f"{prefix}{tmp_path}/gate.mp4"))
    assert line == (
        f"site.yaml:3: cameras.gate.fps: is for image sequences only; {tmp_path}/gate.mp4 is a video file, "
        "whose frames carry their own times"
    )
    for source in ("1.png", "day.2", "*.png", "not-there-yet.mp4"):
        path = f"{prefix}{tmp_path}/{source}"
        assert load(write(tmp_path, text.replace("a.mp4", f"'{path}'"))).cameras["gate"].fps == 5


def test_a_source_that_the_system_refuses_is_an_error_of_its_line(tmp_path: Path) -> None:
    text = SMALLEST.replace("modality: rgb", "modality: rgb, fps: 5").replace("a.mp4", "a" * 300)
    assert errors_of(tmp_path, text) == [f"site.yaml:3: cameras.gate.source: {'a' * 300}: File name too long"]


def test_an_override_of_an_unknown_section_is_its_own_mistake_and_not_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST + "tracker: {name: sort}\n")
    with pytest.raises(UsageError, match=r"^--set: tracker\.lives: unknown key"):
        load(path, overrides=["tracker.lives.most=9"])


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    lines = errors_of(tmp_path, "version: 1\ncameras:\n  gate:\n    source: 1.5\n    modality: ir\nsite: {nam: x}\n")
    assert lines == [
        "site.yaml:6: site.nam: unknown key; did you mean name?",
        "site.yaml:4: cameras.gate.source: expected text, got 1.5",
        "site.yaml:5: cameras.gate.modality: 'ir' is not one of rgb, nir, thermal; did you mean nir?",
        "site.yaml:1: reid: is required: reid.weights is a checkpoint file, or xreid-tiny for the embedded one",
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: no such config file"):
        load(tmp_path / "none.yaml")


def test_text_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(SMALLEST.encode() + "site: {name: Tür}\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"site\.yaml:5: not UTF-8 text: byte 0xfc"):
        load(path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(SMALLEST, encoding="utf-8-sig")
    assert list(load(path).cameras) == ["gate"]


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_the_environment_fills_values_in_and_numbers_stay_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOTAGE", "/srv/night")
    monkeypatch.setenv("RATE", "12.5")
    text = SMALLEST.replace("a.mp4, modality: rgb", '"${FOOTAGE}/gate.mp4", modality: rgb').replace(
        "reid:", "  yard:\n    source: y\n    modality: nir\n    fps: ${RATE}\nreid:"
    )
    config = load(write(tmp_path, text))
    assert config.cameras["gate"].source == "/srv/night/gate.mp4"
    assert config.cameras["yard"].fps == 12.5


def test_anchors_may_be_used_twice(tmp_path: Path) -> None:
    text = "version: 1\ncameras:\n  a: &one {source: x, modality: rgb}\n  b: *one\nreid: {weights: xreid-tiny}\n"
    assert set(load(write(tmp_path, text)).cameras) == {"a", "b"}


def test_sources_on_the_command_line_become_cameras() -> None:
    config = from_sources(
        [
            "gate=a,b.mp4",
            "yard=y/*.png,modality=thermal,start=2026-06-01T10:00:00+02:00,fps=5,thermal.polarity=black_hot",
        ]
    )
    gate, yard = config.cameras["gate"], config.cameras["yard"]
    assert (gate.source, gate.modality) == ("a,b.mp4", Modality.RGB)
    assert yard.start == datetime(2026, 6, 1, 8, tzinfo=UTC)
    assert (yard.fps, yard.thermal.polarity) == (5, "black_hot")
    assert config.reid.weights == "xreid-tiny"


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([], "no camera given"),
        (["a.mp4"], "expected NAME=URI"),
        (["Gate=a.mp4"], "where NAME is of a-z"),
        (["a=x", "a=y"], "camera 'a' is given twice"),
        (["a=x,modality=ir"], "--source: cameras.a.modality: 'ir' is not one of rgb, nir, thermal"),
        (["a=x,modalty=nir"], "--source: cameras.a.modalty: unknown key; did you mean modality?"),
        (["a="], "--source: cameras.a.source: string should have at least 1 character, got ''"),
    ],
)
def test_wrong_sources_are_told(sources: list[str], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_sources(sources)
    assert expected in str(caught.value)


def test_overrides_reach_any_key_and_leave_the_data_alone() -> None:
    data = {"reid": {"weights": "x"}}
    assert apply_overrides(data, ["reid.batch=4", "output.video=false", "site.name=north"]) == {
        "reid": {"weights": "x", "batch": 4},
        "output": {"video": False},
        "site": {"name": "north"},
    }
    assert data == {"reid": {"weights": "x"}}


@pytest.mark.parametrize("text", ["reid.batch", "=4", "reid..batch=4", "reid.weights.x=1", "reid.batch=["])
def test_malformed_overrides_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        apply_overrides({"reid": {"weights": "w"}}, [text])


def test_a_wrong_value_of_an_override_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--set: reid.batch: expected a whole number, got 'many'$"):
        load(write(tmp_path, SMALLEST), overrides=["reid.batch=many"])


def test_times_become_utc() -> None:
    assert parse_time("2026-06-01T10:00:00+02:00") == datetime(2026, 6, 1, 8, tzinfo=UTC)
    for wrong in ("yesterday", "2026-06-01", 20260601, None):
        with pytest.raises(ValueError, match="with its offset"):
            parse_time(wrong)


def test_times_in_names_are_of_the_sites_zone_unless_a_camera_says_another() -> None:
    config = from_sources(["gate=a.mp4", "yard=b.mp4,start_timezone=UTC"], overrides=["site.timezone=Europe/Berlin"])
    assert [camera.start_timezone for camera in config.cameras.values()] == ["Europe/Berlin", "UTC"]
    assert Config.model_validate(config.model_dump(mode="json", exclude_unset=True)).cameras == config.cameras


def test_a_device_may_be_told_by_its_number(tmp_path: Path) -> None:
    text = "version: 1\nreid: {{weights: xreid-tiny}}\ncameras: {{gate: {{source: {}, modality: rgb}}}}\n"
    camera = load(write(tmp_path, text.format(0))).cameras["gate"]
    assert (camera.source, camera.live) == ("0", True)
    for wrong in ("-1", "true", "1.5"):
        with pytest.raises(UsageError, match=r"cameras\.gate\.source: expected text"):
            load(write(tmp_path, text.format(wrong)))


def keys_of(value: object, prefix: str = "") -> set[str]:
    if isinstance(value, BaseModel):
        pairs = [(name, getattr(value, name)) for name in type(value).model_fields]
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        return {prefix}
    return set().union(*(keys_of(item, f"{prefix}.{name}".lstrip(".")) for name, item in pairs))


def test_default_yaml_names_every_key_and_its_true_default() -> None:
    import yaml

    path = REPOSITORY / "configs/default.yaml"
    written = yaml.safe_load(path.read_text())
    defaults = Config.model_validate(
        {
            "version": 1,
            "cameras": {"example": {"source": "recordings/example", "modality": "thermal"}},
            "reid": {"weights": "xreid-tiny"},
        }
    )
    assert keys_of(written) == keys_of(defaults)
    assert load(path) == defaults


def test_every_line_of_default_yaml_with_a_value_has_a_comment() -> None:
    lines = (REPOSITORY / "configs/default.yaml").read_text().splitlines()
    bare = [line for line in lines if line.strip() and not line.strip().endswith(":") and "#" not in line]
    assert bare == ["version: 1"]


def test_all_shipped_configs_load() -> None:
    for path in (REPOSITORY / "configs").glob("*.yaml"):
        assert load(path).cameras


def test_settings_of_the_stages_have_the_same_defaults() -> None:
    from pipeline.config import IdentityConfig, MotionConfig, TrackletsConfig
    from pipeline.detectors.motion import MotionSettings
    from pipeline.identify import IdentifyRules
    from pipeline.tracklets import TrackletRules

    assert MotionSettings(**MotionConfig().model_dump()) == MotionSettings()
    assert TrackletRules(**TrackletsConfig().model_dump()) == TrackletRules()
    assert IdentifyRules(**IdentityConfig().model_dump(exclude={"travel_share"})) == IdentifyRules()


def test_the_schema_is_json_and_forbids_unknown_keys() -> None:
    made = json.loads(json.dumps(schema()))
    assert made["additionalProperties"] is False
    assert set(made["required"]) == {"version", "cameras", "reid"}


@pytest.mark.parametrize("override", ["trackr.foo=1", "detector.backend=onnx"])
def test_an_error_that_an_override_caused_is_laid_to_it_and_not_to_the_sources(override: str) -> None:
    with pytest.raises(UsageError, match=r"^--set: "):
        from_sources(["gate=gate.mp4"], overrides=[override])


SECRET_URL = "rtsp://admin:hunter2@10.0.0.1/s1?key=opensesame"  # noqa: S105


@pytest.mark.parametrize(
    "make",
    [
        lambda path: from_sources([SECRET_URL]),
        lambda path: from_sources([f"gate={SECRET_URL},fps=10"]),
        lambda path: from_sources([f"gate={SECRET_URL},modality=thermall"]),
        lambda path: from_sources([f"gate={SECRET_URL},start=2026-06-01T08:00:00Z"]),
        lambda path: from_sources([f"gate={SECRET_URL}"], overrides=[f"cameras.gate.source.x={SECRET_URL}"]),
        lambda path: from_sources([f"gate={SECRET_URL}"], overrides=[f"cameras.gate.source=[{SECRET_URL}]"]),
        lambda path: from_sources([f"gate={SECRET_URL}"], overrides=[SECRET_URL.replace("=", ":")]),
        lambda path: load(path),
    ],
)
def test_no_error_tells_a_secret(
    make: Callable[[Path], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMERA_URL", SECRET_URL)
    path = tmp_path / "site.yaml"
    path.write_text(
        "version: 1\nreid: {weights: xreid-tiny}\n"
        "cameras: {gate: {source: '${CAMERA_URL}', modality: rgb, fps: 3, stream: {transport: '${CAMERA_URL}'}}}\n"
    )
    with pytest.raises(UsageError) as caught:
        make(path)
    assert "hunter2" not in str(caught.value)
    assert "opensesame" not in str(caught.value)


def test_no_form_of_a_config_tells_a_secret() -> None:
    config = from_sources([f"gate={SECRET_URL}"])
    assert config.cameras["gate"].source == SECRET_URL
    for text in (repr(config), str(config), config.model_dump_json(), str(config.model_dump())):
        assert "hunter2" not in text
        assert "opensesame" not in text
    assert (
        Config.model_validate_json(config.model_dump_json(exclude_unset=True))
        .cameras["gate"]
        .source.startswith("rtsp://***@10.0.0.1")
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("a.mp4,target_fps=5", "target_fps: is for live streams only"),
        ("a.mp4,max_staleness_ms=5", "max_staleness_ms: is for live streams only"),
        ("a.mp4,stream.transport=udp", "stream: is for live streams only"),
        ("rtsp://a/b,fps=10", "set target_fps"),
        ('rtsp://a/b,start_pattern="%s"', "start: is for recordings only"),
        ("a.mp4,start=0001-01-01T00:00:00+10:00", "start: must be a time that UTC has too"),
        ("a.mp4,start=1826-06-01T08:00:00Z", "start: must be between 1900 and 2200, got 1826"),
        ("frames,fps=0.000001", "fps: input should be greater than or equal to 0.00001"),
        ("rtsp://a/b,stream.backoff_seconds=50", r"must not exceed backoff_cap_seconds \(30\)"),
        ("a.mp4,start_pattern='%Y'", "start_pattern: year, month, day, hour and minute are needed"),
        ('a.mp4,start=2026-06-01T08:00:00Z,start_pattern="%s"', "start_pattern: start is given too"),
        ("a,modality=thermal,thermal.kelvin_per_count=0.01", "kelvin_per_count: is for low and high in degrees"),
    ],
)
def test_what_does_not_fit_a_camera_is_refused(options: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        from_sources([f"gate={options}"])


PAIR = """
version: 1
cameras:
  day: {{source: a.mp4, modality: rgb, pair_id: gate}}
  night: {{source: b.mp4, modality: {modality}, pair_id: {pair}}}
pairs: {pairs}
reid: {{weights: xreid-tiny}}
"""


@pytest.mark.parametrize(
    ("modality", "pair", "pairs", "message"),
    [
        (
            "rgb",
            "gate",
            "{}",
            "cameras.night.pair_id: gate: its two cameras must differ in modality, got day and night, both rgb",
        ),
        ("nir", "yard", "{}", ":4: cameras.day.pair_id: gate must be the pair_id of two cameras, got 1: day"),
        ("nir", "gate", "{roof: {}}", ":6: pairs.roof: must be the pair_id of two cameras, got 0"),
        ("nir", "gate", "{gate: {max_skew_ms: 0}}", "pairs.gate.max_skew_ms: "),
        ("nir", "gate", "{gate: {max_skew: 50}}", "pairs.gate.max_skew: unknown key; did you mean max_skew_ms?"),
        ("nir", "'ga te'", "{}", "pair id 'ga te' must be of a-z, 0-9, _ and -"),
    ],
)
def test_a_pair_is_two_cameras_of_different_modality(
    tmp_path: Path, modality: str, pair: str, pairs: str, message: str
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(PAIR.format(modality=modality, pair=pair, pairs=pairs))
    with pytest.raises(UsageError) as caught:
        load(path)
    assert message in str(caught.value)


def test_a_pair_without_an_entry_has_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(PAIR.format(modality="nir", pair="gate", pairs="{}"))
    assert load(path).pair_members() == {"gate": ("day", "night")}


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", ""])  # noqa: S104 (it is refused)
def test_metrics_are_for_this_machine_only(tmp_path: Path, host: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(PAIR.format(modality="nir", pair="gate", pairs="{}"))
    with pytest.raises(UsageError, match=r"monitoring.host: .* is not one of 127.0.0.1, ::1, localhost"):
        load(path, overrides=[f"monitoring.host={host!r}"])


def test_lists_within_lists_without_end_are_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("[" * 5000)
    with pytest.raises(UsageError, match=r"deep\.yaml: lists or keys within each other deeper than can be read"):
        load(path)
