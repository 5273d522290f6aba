"""The page and the command line give the same JSON for the same question, and both are audited."""

import asyncio
import io
import json
import shutil
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline import search
from pipeline.audit import Audit
from pipeline.cli import main
from pipeline.clips import Query
from pipeline.config import from_sources
from pipeline.query import CONFIG, SearchOptions, read_config
from pipeline.recovery import open_store as opened_by_a_run
from pipeline.retention import Retention, RetentionRules
from pipeline.server import searching
from pipeline.server.access import Caller
from pipeline.server.problems import ProblemError
from pipeline.server.queries import Origin, Queries
from pipeline.server.recordings import recording_mark
from pipeline.server.roles import Role
from pipeline.server.searching import SearchDesk
from pipeline.server.users import USERS
from pipeline.store import Store
from reid.calibration import Calibration, Curve
from reid.gallery import Gallery
from reid.modality import Modality
from tests.pipeline.factories import open_store, sighting_of, tracklet_of
from tests.pipeline.recordings import scene
from tests.pipeline.server.client import Client
from tests.pipeline.server.conftest import Serve, add_users


def tracklets(client: Client) -> dict[str, str]:
    return {each["camera_id"]: each["tracklet_id"] for each in client.get("/tracklets").json()["items"]}


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()


def test_a_search_by_tracklet_is_that_of_the_command_line(
    run: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(run)
    name = tracklets(client)["gate"]
    arguments = ["search", name, "-g", str(run), "--json", "--modality", "thermal", "--time-of-day", "21:00-23:00"]
    assert main([*arguments, "--top-k", "3", "--rerank", "--device", "cpu"]) == 0
    printed = json.loads(capsys.readouterr().out)
    filters = {"modalities": ["thermal"], "time_of_day": "21:00-23:00"}
    answer = client.post(
        "/search", {"examples": [{"tracklet_id": name}], "filters": filters, "top_k": 3, "rerank": True}
    )
    assert answer.status_code == 200
    assert answer.json() == printed
    assert [each["camera_id"] for each in printed["answers"]] == ["dock"]
    assert printed["answers"][0]["best_crop"].startswith("crops/dock/")
    with Store.read(run) as store:
        rows = Audit(store).rows()
    assert [row.action for row in rows] == ["search", "search"]
    assert rows[0].details == rows[1].details


def test_a_calibration_that_the_next_run_brings_is_that_of_the_next_search(run: Path, serve: Serve) -> None:
    client = serve(run)
    asked = {"examples": [{"tracklet_id": tracklets(client)["gate"]}], "filters": {"modalities": ["thermal"]}}
    before = client.post("/search", asked).json()["answers"][0]
    with Store.read(run) as store:
        model, dimension = store.model_id, store.dimension
    site = Calibration({(Modality.RGB, Modality.THERMAL): Curve(2.0, -7.0)})
    opened_by_a_run(run, model_id=model, dimension=dimension, calibration=site).close()
    after = client.post("/search", asked).json()["answers"][0]
    assert after["cosine"] == before["cosine"]
    assert after["probability"] == pytest.approx(1 / (1 + np.exp(7 - 2 * after["cosine"])))
    assert after["probability"] != pytest.approx(before["probability"])


def test_a_search_by_a_box_on_a_frame_is_that_of_the_command_line(
    run: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(run)
    assert main(["search", "gate", "-g", str(run), "--at", "3.0", "--box", "100,90,130,190", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    spot = {"camera_id": "gate", "seconds": 3.0, "xyxy": [100, 90, 130, 190]}
    answer = client.post("/search", {"examples": [{"spot": spot}]})
    assert answer.json() == printed
    preview = client.post("/queries/preview", {"spot": spot}).json()
    assert preview["description"] == printed["query"]["description"]
    assert (preview["modality"], preview["quality"]["height_px"], preview["quality"]["night"]) == ("rgb", 100, False)
    again = client.post("/search", {"examples": [{"query_id": preview["query_id"]}]})
    assert again.json() == printed


def test_several_examples_and_negatives_are_those_of_the_command_line(
    run: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(run)
    names = tracklets(client)
    assert main(["search", names["gate"], "--not", names["dock"], "-g", str(run), "--include-own", "--json"]) == 0
    asked = {
        "examples": [{"tracklet_id": names["gate"]}],
        "negatives": [{"tracklet_id": names["dock"]}],
        "filters": {"include_own": True},
    }
    assert client.post("/search", asked).json() == json.loads(capsys.readouterr().out)


def test_an_uploaded_picture_is_judged_and_then_searched_for(run: Path, serve: Serve) -> None:
    client = serve(run)
    picture = scene(30)[80:200, 90:140]
    told = client.post("/queries", files={"file": ("../../me and you.jpg", jpeg(picture), "image/jpeg")})
    assert told.status_code == 201
    preview = told.json()
    assert (preview["modality"], preview["description"]) == ("rgb", "me_and_you.jpg (whole image)")
    assert preview["quality"]["height_px"] == 120
    assert preview["quality"]["verdict"] == "good"
    shown = client.raw.get(preview["crop"])
    assert cv2.imdecode(np.frombuffer(shown.content, np.uint8), 1).shape == (120, 50, 3)
    found = client.post("/search", {"examples": [{"query_id": preview["query_id"]}]}).json()
    assert {each["camera_id"] for each in found["answers"]} == {"gate", "dock"}


def test_a_dark_blurred_small_picture_is_said_to_be_poor(run: Path, serve: Serve) -> None:
    picture = cv2.GaussianBlur(scene(30)[85:195, 95:135] // 6, (0, 0), 8)
    picture = cv2.resize(picture, (16, 40))
    told = serve(run).post("/queries", files={"file": ("x.jpg", jpeg(picture), "image/jpeg")}).json()["quality"]
    assert told["night"]
    assert told["verdict"] == "poor"
    assert any("40 pixels high" in each for each in told["warnings"])


def test_a_grey_picture_needs_its_modality_said(run: Path, serve: Serve) -> None:
    client = serve(run)
    data = cv2.imencode(".png", scene(30)[80:200, 90:140, 0])[1].tobytes()
    refused = client.post("/queries", files={"file": ("x.png", data, "image/png")})
    assert refused.status_code == 422
    assert "nir, thermal or rgb" in refused.json()["detail"]
    assert "/" not in refused.json()["detail"]
    taken = client.post("/queries", files={"file": ("x.png", data, "image/png")}, data={"modality": "nir"})
    assert taken.json()["modality"] == "nir"


def test_a_query_belongs_to_the_one_who_brought_it(run: Path, serve: Serve) -> None:
    add_users(run, ("ann", Role.VIEWER, None), ("bob", Role.VIEWER, None))
    client = serve(run, users=True)
    client.login("ann")
    picture = jpeg(scene(30)[80:200, 90:140])
    name = client.post("/queries", files={"file": ("x.jpg", picture, "image/jpeg")}).json()["query_id"]
    assert client.get(f"/queries/{name}/crop").status_code == 200
    client.login("bob")
    assert client.get(f"/queries/{name}/crop").status_code == 404
    assert client.post("/search", {"examples": [{"query_id": name}]}).status_code == 404


def uses(client: Client, query_id: str) -> list[int]:
    return [
        client.get(f"/queries/{query_id}/crop").status_code,
        client.post("/queries/preview", {"query_id": query_id}).status_code,
        client.post("/search", {"examples": [{"query_id": query_id}]}).status_code,
    ]


SPOT = {"camera_id": "gate", "seconds": 3.0, "xyxy": [100, 80, 140, 200]}


def test_a_query_is_of_no_more_use_to_who_may_not_see_its_camera_any_more(run: Path, serve: Serve) -> None:
    add_users(run, ("ann", Role.VIEWER, ["gate", "dock"]))
    client = serve(run, users=True)
    client.login("ann")
    files = {"file": ("x.jpg", jpeg(scene(30)[80:200, 90:140]), "image/jpeg")}
    made = [
        client.post("/queries/preview", {"tracklet_id": tracklets(client)["gate"]}),
        client.post("/queries/preview", {"spot": SPOT}),
        client.post("/queries", files=files, data={"camera_id": "gate"}),
    ]
    names = [each.json()["query_id"] for each in made]
    other = client.post("/queries", files=files, data={"modality": "rgb"}).json()["query_id"]
    assert [uses(client, each) for each in names] == [[200, 201, 200]] * 3
    text = json.loads((run / USERS).read_text())
    text["users"]["ann"]["cameras"] = ["dock"]
    (run / USERS).write_text(json.dumps(text))
    assert [uses(client, each) for each in names] == [[404, 404, 404]] * 3
    assert uses(client, other) == [200, 201, 200]


@pytest.fixture
def footage(run: Path, tmp_path: Path) -> Path:
    """Where the recordings of the run lie, of which the test may remove some."""
    config, folder = read_config(run), tmp_path / "footage"
    recorded = Path(config.cameras["gate"].source).parent
    folder.mkdir()
    shutil.copy(recorded / "gate.mp4", folder)
    shutil.copytree(recorded / "dock", folder / "dock")
    text = (run / CONFIG).read_text()
    (run / CONFIG).write_text(text.replace(str(recorded), str(folder)))
    return folder


def test_what_was_erased_or_aged_away_is_in_no_query_and_no_clip_any_more(
    run: Path, footage: Path, serve: Serve
) -> None:
    client = serve(run)
    gate, dock = (tracklets(client)[name] for name in ("gate", "dock"))
    asked = [{"tracklet_id": gate}, {"tracklet_id": dock}, {"spot": SPOT}]
    queries = [client.post("/queries/preview", each).json()["query_id"] for each in asked]
    clips = client.app.state.desk.clips

    def shown() -> list[int]:
        paths = [f"/queries/{each}/crop" for each in queries] + [f"/tracklets/{each}/clip" for each in (gate, dock)]
        return [client.get(each).status_code for each in paths]

    assert shown() == [200, 200, 200, 200, 200]
    assert {name for name, _ in clips._kept} == {gate, dock}
    assert main(["gallery", "erase", "--tracklet", gate, "-g", str(run)]) == 0
    assert shown() == [404, 200, 200, 404, 200]
    assert uses(client, queries[0]) == [404, 404, 404]
    assert {name for name, _ in clips._kept} == {dock}
    shutil.rmtree(footage)
    assert shown() == [404, 200, 404, 404, 200]  # the clip is made of the kept views then
    assert uses(client, queries[2]) == [404, 404, 404]
    with Store.maintain(run) as store:
        Retention(store, RetentionRules(crops_days=1)).age()
    assert shown() == [404, 404, 404, 404, 404]
    assert clips._kept == {}


@pytest.mark.parametrize("source", ["images", "images/*.png", "images/%02d.png", "gate.mp4"])
def test_a_recording_has_another_mark_when_its_files_are_others_and_none_when_they_are_gone(
    tmp_path: Path, source: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    files = [tmp_path / "gate.mp4", folder / "01.png", folder / "02.png"]
    for each in files:
        each.write_bytes(b"old")
    config = from_sources([f"gate={tmp_path}/{source},start=2026-06-01T12:00:00Z,modality=rgb"])
    before = recording_mark(config, "gate")
    assert before is not None
    assert recording_mark(config, "gate") == before
    assert recording_mark(config, "yard") is None
    for each in files:
        each.unlink()
    assert recording_mark(config, "gate") is None
    time.sleep(0.01)
    for each in files:
        each.write_bytes(b"other")
    assert recording_mark(config, "gate") not in (None, before)


def test_a_clip_is_forgotten_after_some_minutes(gallery: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.server.clipping._SECONDS", 0.05)
    client = serve(gallery)
    assert client.get("/tracklets/gate-ann/clip").status_code == 200
    ends = time.monotonic() + 5
    while client.app.state.desk.clips._kept:
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_few_pictures_wait_for_the_one_thread_of_the_model(gallery: Path) -> None:
    desk, go_on = SearchDesk(gallery, threads=1, device="cpu"), threading.Event()

    async def ask() -> None:
        waiting = [asyncio.create_task(desk.models.run(go_on.wait)) for _ in range(16)]
        await asyncio.sleep(0)
        try:
            with pytest.raises(ProblemError, match="too many"):
                await asyncio.wait_for(desk.models.run(go_on.wait), 5)
        finally:
            go_on.set()
        await asyncio.gather(*waiting)

    with ThreadPoolExecutor(1) as other:  # Playwright leaves a loop running in the thread of the tests
        other.submit(lambda: asyncio.run(ask())).result()
    desk.close()


def caller_of(user: str) -> Caller:
    return Caller(user, Role.OPERATOR, None, "")


def test_nobody_pushes_out_what_another_has_brought() -> None:
    queries, query = Queries(), Query("a picture", Modality.RGB)

    def keep(owner: str, side: int) -> str:
        return queries.keep(owner, [np.zeros((side, side, 3), np.uint8)], query, {}, Origin()).query_id

    own, others = keep("ann", 100), [keep("bob", 2500) for _ in range(10)]  # 19 MB each
    assert queries.get(own, caller_of("ann")).owner == "ann"
    kept = []
    for each in others:
        with suppress(ProblemError):
            kept.append(queries.get(each, caller_of("bob")).query_id)
    assert kept == others[-3:]
    for number in range(12):
        keep(f"user{number}", 4000)  # 48 MB each: more than there is room for in all
    assert queries.get(own, caller_of("ann")).owner == "ann"


def test_who_may_see_one_camera_searches_a_gallery_of_that_camera(gallery: Path, serve: Serve) -> None:
    add_users(gallery, ("all", Role.VIEWER, None), ("gate", Role.VIEWER, ["gate"]))
    client = serve(gallery, users=True)
    asked = {"examples": [{"tracklet_id": "gate-ann"}], "filters": {"modalities": ["rgb"]}, "top_k": 50}
    client.login("all")
    whole = client.post("/search", asked).json()
    assert whole["searched"] + sum(whole["excluded_by"].values()) == 6
    client.login("gate")
    part = client.post("/search", asked).json()
    assert part["searched"] + sum(part["excluded_by"].values()) == 3
    assert part["excluded_by"]["modality"] == 0
    assert [each["tracklet_id"] for each in part["answers"]] == ["gate-bob", "gate-eve"]
    other = client.post("/search", {"examples": [{"tracklet_id": "dock-ann"}]})
    assert other.status_code == 404
    named = client.post("/search", {**asked, "filters": {"cameras": ["dock"]}})
    assert (named.status_code, named.json()["detail"]) == (422, "filters.cameras: 'dock' is not one of gate")


def test_a_filter_by_what_is_not_there_is_refused_in_the_words_of_the_command_line(
    gallery: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(gallery)
    with Store.edit(gallery) as store, store.writing() as db:
        db.execute("UPDATE tracklets SET zones = '[\"quay\"]' WHERE camera_id = 'dock'")
        db.execute("UPDATE tracklets SET zones = '[\"door\"]' WHERE camera_id = 'gate'")
    assert client.post("/persons/merge", {"into": "P0001", "other": "P0003"}).status_code == 201
    for kind, flag, name, said in (
        ("zones", "--zone", "dor", "filters.zones: 'dor' is not one of door, quay; did you mean door?"),
        ("cameras", "--camera", "gat", "filters.cameras: 'gat' is not one of dock, gate, yard; did you mean gate?"),
        ("persons", "--person", "P0099", "no person P0099 in this gallery"),
        ("persons", "--person", "P0003", "P0003 is part of P0001, who has the tracklets now; name them"),
    ):
        answer = client.post("/search", {"examples": [{"tracklet_id": "gate-bob"}], "filters": {kind: [name]}})
        assert (answer.status_code, answer.json()["detail"]) == (422, said)
        assert main(["search", "gate-bob", "-g", str(gallery), flag, name]) == 2
        assert said.replace(f"filters.{kind}:", flag) in capsys.readouterr().err
    rate = {"examples": [{"tracklet_id": "gate-bob"}], "false_match_rate": 1e-9}
    case = {"examples": [{"tracklet_id": "gate-bob"}], "case_id": "none"}
    for asked in (rate, case):
        refused = client.post("/search", asked)
        assert (refused.status_code, "--" in refused.json()["detail"]) == (422, False)
    assert client.get("/audit").json()["items"][0]["action"] == "merge"  # nothing of it was a search


def test_a_filter_by_what_only_others_may_see_is_refused_like_one_by_what_is_not_there(
    gallery: Path, serve: Serve
) -> None:
    with Store.edit(gallery) as store, store.writing() as db:
        db.execute("UPDATE tracklets SET zones = '[\"quay\"]' WHERE camera_id = 'dock'")
    add_users(gallery, ("all", Role.OPERATOR, None), ("gate", Role.VIEWER, ["gate"]))
    client = serve(gallery, users=True)
    client.login("all")
    assert client.post("/persons/merge", {"into": "P0001", "other": "P0004"}).status_code == 201
    client.login("gate")
    for filters, said in (
        ({"zones": ["quay"]}, "filters.zones: 'quay': this gallery has no zones"),
        ({"persons": ["P0004"]}, "no person P0004 in this gallery"),
        ({"persons": ["P0099"]}, "no person P0099 in this gallery"),
    ):
        answer = client.post("/search", {"examples": [{"tracklet_id": "gate-bob"}], "filters": filters})
        assert (answer.status_code, answer.json()["detail"]) == (422, said)
    seen = {"examples": [{"tracklet_id": "gate-bob"}], "filters": {"persons": ["P0001"]}}
    assert [each["tracklet_id"] for each in client.post("/search", seen).json()["answers"]] == ["gate-ann"]


def test_what_cannot_be_recorded_is_not_told(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    assert client.post("/search", {"examples": [{"tracklet_id": "gate-ann"}]}).status_code == 200
    (gallery / "audit.jsonl").unlink()
    (gallery / "audit.jsonl").mkdir()
    refused = client.post("/search", {"examples": [{"tracklet_id": "gate-ann"}]})
    assert refused.status_code >= 500
    assert "yard-bob" not in refused.text


def test_a_site_that_asks_why_is_told_why_or_does_not_search(run: Path, serve: Serve) -> None:
    config = run / "config.json"
    plain = json.loads(config.read_text())
    config.write_text(json.dumps(plain | {"storage": {"purpose_required": True}}))
    client = serve(run)
    assert client.get("/session").json()["purpose_required"]
    asked = {"examples": [{"tracklet_id": tracklets(client)["gate"]}]}
    for why in ({}, {"purpose": ""}, {"purpose": " \n "}):
        refused = client.post("/search", {**asked, **why})
        assert (refused.status_code, refused.json()["type"]) == (422, "purpose-required")
    assert client.post("/search", {**asked, "purpose": "lost child"}).status_code == 200
    assert client.get("/audit").json()["items"][0]["purpose"] == "lost child"


def test_an_index_follows_what_is_added_while_it_is_searched(gallery: Path, serve: Serve) -> None:

    client = serve(gallery)
    asked = {"examples": [{"tracklet_id": "gate-ann"}], "top_k": 50}
    before = [each["tracklet_id"] for each in client.post("/search", asked).json()["answers"]]
    with open_store(gallery) as store:
        store.add(sighting_of(tracklet_of("roof-new", at=300.0), person=9))
    after = [each["tracklet_id"] for each in client.post("/search", asked).json()["answers"]]
    assert set(after) - set(before) == {"roof-new"}


def test_pictures_are_looked_at_before_they_are_decoded(run: Path, serve: Serve) -> None:
    from PIL import Image

    client = serve(run, upload_megapixels=1.0, upload_mb=1.0)

    def send(data: bytes, name: str = "x.png") -> int:
        return client.post("/queries", files={"file": (name, data, "image/png")}, data={"whole": "true"}).status_code

    bomb = io.BytesIO()
    Image.new("1", (19_000, 19_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    assert send(bomb.getvalue()) == 413
    assert send(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "x.svg") == 415
    assert send(b"") == 415
    assert send(b"GIF89a" + bytes(100)) == 415
    assert send(bytes(2_000_000)) == 413
    assert send(jpeg(scene(30))[:300]) in (415, 422)
    assert client.get("/health").status_code == 200


def test_a_picture_of_a_camera_is_taken_and_one_that_fills_the_memory_is_not(run: Path, serve: Serve) -> None:
    """What a few kilobytes can have decoded on the one thread that runs models."""
    from PIL import Image

    client = serve(run)

    def send(width: int, height: int) -> int:
        data = io.BytesIO()
        Image.new("RGB", (width, height), (90, 20, 30)).save(data, "JPEG")
        return client.post("/queries", files={"file": ("x.jpg", data.getvalue())}, data={"whole": "true"}).status_code

    assert send(6000, 4000) == 201
    assert send(6000, 4200) == 413


def tiff(pages: int, *, sizes: bool = True) -> bytes:
    """Grey pages of 32x64 pixels that share their pixels; without sizes, only the first says how large it is."""
    size, rest = [(256, 32), (257, 64)], [(258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 64), (279, 2048)]
    pixels = bytes(range(256)) * 8
    data = bytearray(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels)
    for page in range(pages):
        tags = [*(size if sizes or page == 0 else []), *rest]
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        data += struct.pack("<I", len(data) + 4 if page < pages - 1 else 0)
    return bytes(data)


@pytest.mark.parametrize("kind", ["several pictures in a JPEG", "a second page without a size", "thousands of pages"])
def test_of_several_pictures_in_a_file_the_first_is_taken_and_no_other_looked_at(
    run: Path, serve: Serve, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from pipeline.server import queries

    checked, by = queries.check_image, []

    def noted(data: bytes, *, most_pixels: int) -> str:
        by.append(threading.current_thread().name)
        return checked(data, most_pixels=most_pixels)

    monkeypatch.setattr(queries, "check_image", noted)
    if kind == "several pictures in a JPEG":
        file = io.BytesIO()
        first = Image.fromarray(scene(30)[80:200, 90:140])
        first.save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (50, 120))])
        data, name, height = file.getvalue(), "x.jpg", 120
    else:
        data, name, height = tiff(2, sizes=False) if "size" in kind else tiff(5000), "x.tif", 64
    told = serve(run).post("/queries", files={"file": (name, data, "image/x")}, data={"modality": "rgb"})
    assert (told.status_code, told.json().get("quality", {}).get("height_px")) == (201, height), told.text
    assert [name.rpartition("_")[0] for name in by] == ["embed"]  # not on the event loop, which others wait for


def test_what_only_begins_as_a_picture_is_none(run: Path, serve: Serve) -> None:
    client = serve(run)
    without_size = tiff(2, sizes=False).replace(struct.pack("<HHII", 256, 4, 1, 32), struct.pack("<HHII", 254, 4, 1, 0))
    for data in (without_size, tiff(1)[:2100], b"II*\0" + struct.pack("<I", 8)):
        assert client.post("/queries", files={"file": ("x.tif", data, "image/tiff")}).status_code in (415, 422)


@pytest.mark.parametrize(
    ("box", "cut"),
    [([100, 90, 130, 190], False), ([0, 90, 40, 190], True), ([290, 90, 320, 190], True), ([100, 140, 130, 240], True)],
)
def test_a_box_that_any_border_of_the_frame_cuts_is_told(run: Path, serve: Serve, box: list[int], cut: bool) -> None:
    told = serve(run).post("/queries/preview", {"spot": {"camera_id": "gate", "seconds": 3.0, "xyxy": box}}).json()
    assert told["quality"]["truncated"] is cut
    assert ("cut by the border of the picture" in told["quality"]["warnings"]) is cut


def test_frames_that_take_long_keep_nobody_else_waiting(
    run: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("pipeline.server.desk._MOST_TO_DECODE", 4)
    monkeypatch.setattr("pipeline.server.routes.cameras.recording_of", lambda *of: go_on.wait(30) and {})
    client = serve(run)
    asking = [threading.Thread(target=client.get, args=("/cameras/gate/recording",)) for _ in range(4)]
    for each in asking:
        each.start()
    time.sleep(0.5)
    refused = client.get("/cameras/gate/frame?seconds=1")
    listed = client.get("/tracklets").status_code
    go_on.set()
    for each in asking:
        each.join()
    assert (refused.status_code, refused.headers["retry-after"], listed) == (503, "5", 200)


def test_the_index_is_where_the_server_is_told_and_a_search_of_the_command_line_is_on_the_cpu(
    gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "index_device", {"auto": "cuda"}.get)
    made = []

    def noted(dimension: int, *, device: str | None, **how: Any) -> Gallery:
        made.append(device)
        return Gallery(dimension, device=device, **how)

    monkeypatch.setattr(search, "Gallery", noted)
    desk = SearchDesk(gallery, threads=1, device="auto")
    with Store.read(gallery) as store:
        found = desk.searcher(store, SearchOptions(), None).by_tracklet("gate-ann")
    desk.close()
    assert (set(made), found.answers[0].tracklet_id) == ({"cuda"}, "dock-ann")
    made.clear()
    assert main(["search", "gate-ann", "-g", str(gallery), "--device", "cuda:3"]) == 0
    assert set(made) == {None}
