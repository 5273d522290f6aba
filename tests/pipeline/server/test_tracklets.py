"""Lists come page by page, pictures with a tag and in parts, clips of the recording or of what was kept."""

import io
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.store import Store
from tests.pipeline.recordings import scene
from tests.pipeline.server.client import Client
from tests.pipeline.server.conftest import Serve


def paged(client: Client, path: str, limit: int) -> list[dict[str, object]]:
    items: list[dict[str, object]] = []
    joint, cursor = "&" if "?" in path else "?", None
    while True:
        answer = client.get(f"{path}{joint}limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status_code == 200
        items += answer.json()["items"]
        assert len(answer.json()["items"]) <= limit
        cursor = answer.json()["next"]
        if cursor is None:
            return items


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_join_to_the_whole_list(gallery: Path, serve: Serve, limit: int, order: str) -> None:
    found = paged(serve(gallery), f"/tracklets?order={order}", limit)
    with Store.read(gallery) as store:
        names = [each.tracklet_id for each in store.tracklets()]
    assert [each["tracklet_id"] for each in found] == (names if order == "oldest" else names[::-1])


def test_filters_are_those_of_the_store(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)

    def names(query: str) -> list[str]:
        return [each["tracklet_id"] for each in client.get(f"/tracklets?order=oldest&{query}").json()["items"]]

    assert names("camera=dock&camera=yard") == ["dock-ann", "yard-bob", "dock-kim"]
    assert names("modality=nir") == ["yard-bob"]
    assert names("person=P0002") == ["gate-bob", "yard-bob"]
    assert names("rejected=true") == ["gate-mouse"]
    assert names("from=2026-06-01T12:02:00Z&to=2026-06-01T12:02:30Z") == ["gate-eve"]
    assert names("min_quality=0.99") == []
    for wrong in ("from=2026-06-01T12:02:00", "modality=radar", "limit=0", "limit=501", "person=7", "cursor=x"):
        assert client.get(f"/tracklets?{wrong}").status_code in (400, 422)


def test_one_tracklet_tells_all_that_is_known_of_it(gallery: Path, serve: Serve) -> None:
    told = serve(gallery).get("/tracklets/gate-ann").json()
    assert told["cases"] == ["c1"]
    assert [each["camera_id"] for each in told["counterparts"]] == ["dock", "lobby"]
    assert [(each["tracklet_id"], each["to_tracklet_id"]) for each in told["links"]] == [("dock-ann", "gate-ann")]
    assert [each["position"] for each in told["crops"]] == [0, 1]
    assert (told["width"], told["height"], told["time_source"]) == (320, 240, "configured_start")


def test_pictures_are_for_the_eye_or_as_they_are_kept(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    eye, native = (client.get(f"/tracklets/dock-ann/crops/0?view={view}") for view in ("eye", "native"))
    assert (eye.headers["content-type"], native.headers["content-type"]) == ("image/jpeg", "image/png")
    decoded = [cv2.imdecode(np.frombuffer(each.content, np.uint8), cv2.IMREAD_UNCHANGED) for each in (eye, native)]
    assert (decoded[0].dtype, decoded[1].dtype) == (np.uint8, np.uint16)
    kept = gallery / client.get("/tracklets/gate-ann").json()["best_crop"]
    assert client.get("/tracklets/gate-ann/crops/best").content == kept.read_bytes()


def test_a_picture_that_did_not_change_is_not_sent_again(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    first = client.get("/tracklets/gate-ann/crops/best")
    again = client.get("/tracklets/gate-ann/crops/best", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/tracklets/gate-ann/crops/0", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200
    assert first.headers["cache-control"] == "private, no-cache"  # asked for anew, for the right to it may be gone


def test_a_clip_is_given_in_parts(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    whole = client.get("/tracklets/gate-ann/clip")
    size = len(whole.content)
    assert whole.headers["content-type"] == "video/mp4"
    for asked, status, content in (
        ("bytes=0-9", 206, whole.content[:10]),
        ("bytes=10-", 206, whole.content[10:]),
        ("bytes=-5", 206, whole.content[-5:]),
        (f"bytes=5-{10 * size}", 206, whole.content[5:]),
        ("bytes=-", 200, whole.content),
        ("lines=1-2", 200, whole.content),
        ("bytes=0-1,5-6", 200, whole.content),
        ("bytes=" + "9" * 500 + "-", 200, whole.content),
    ):
        part = client.get("/tracklets/gate-ann/clip", headers={"Range": asked})
        assert (part.status_code, part.content) == (status, content), asked
    for asked in (f"bytes={size}-", "bytes=9-5", "bytes=-0"):
        part = client.get("/tracklets/gate-ann/clip", headers={"Range": asked})
        assert (part.status_code, part.headers["content-range"]) == (416, f"bytes */{size}")
        assert part.headers["content-type"] == "application/problem+json"
    changed = client.get("/tracklets/gate-ann/clip", headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert changed.status_code == 200


def frames_of(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_clip_shows_the_recording_with_and_without_the_box(run: Path, serve: Serve) -> None:
    client = serve(run)
    name = client.get("/tracklets?camera=gate").json()["items"][0]["tracklet_id"]
    told = client.get(f"/tracklets/{name}").json()
    assert told["clip"] == "recording"
    plain, boxed = (frames_of(client.get(f"/tracklets/{name}/clip?box={box}").content) for box in ("false", "true"))
    assert len(plain) == len(boxed) == 75 - 1  # a second before it, and until the recording ends
    difference = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(plain, boxed, strict=True)]
    inside = slice(15, 60)
    assert min(difference[inside]) > 0.3
    assert max(difference[:8]) < 0.3
    assert np.abs(plain[39].astype(int) - scene(40)).mean() < 4


def test_without_its_recording_a_clip_is_made_of_the_kept_views(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    assert client.get("/tracklets/dock-ann").json()["clip"] == "crops"
    assert len(frames_of(client.get("/tracklets/dock-ann/clip").content)) == 2
    for crop in (gallery / "crops" / "dock" / "dock-ann").glob("*.png"):
        crop.unlink()
    assert serve(gallery).get("/tracklets/dock-ann/clip").status_code == 404


def test_a_frame_is_the_one_that_a_search_by_its_seconds_takes(run: Path, serve: Serve) -> None:
    client = serve(run)
    told = client.get("/cameras/gate/recording").json()
    assert (told["frames"], told["fps"], told["width"], told["start"]) == (75, 10.0, 320, "2026-06-01T14:00:00.000Z")
    shown = client.get("/cameras/gate/frame?seconds=5.04")
    assert (shown.headers["x-frame-index"], shown.headers["x-captured-at"]) == ("50", "2026-06-01T14:00:05.000Z")
    image = cv2.imdecode(np.frombuffer(shown.content, np.uint8), 1)[..., ::-1]
    assert np.abs(image.astype(int) - scene(50)).mean() < 4
    at = client.get("/cameras/gate/frame?at=2026-06-01T14:00:05.04Z")
    assert at.content == shown.content
    spot = {"camera_id": "gate", "seconds": float(shown.headers["x-seconds"]), "xyxy": [200, 90, 230, 190]}
    assert client.post("/queries/preview", {"spot": spot}).json()["description"].startswith("gate (frame 50,")
    assert client.get("/cameras/gate/frame?seconds=900").status_code == 404
    assert client.get("/cameras/none/frame").status_code == 404


def test_cameras_tell_the_accounts_of_the_last_run(run: Path, serve: Serve) -> None:
    gate, dock = (each for name in ("gate", "dock") for each in [serve(run).get(f"/cameras/{name}").json()])
    assert (gate["state"], gate["frames"]["processed"], gate["live"], gate["recording"]) == ("ended", 75, False, True)
    assert (dock["modality"], dock["tracklets"]) == ("thermal", 1)
    site = serve(run).get("/site").json()
    assert site["disk"]["free_bytes"] > 0
    assert site["pipeline"]["running"] is False
    assert site["pipeline"]["reported"] is not None


def test_links_and_persons_come_page_by_page(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    pairs = [("dock-ann", "gate-ann"), ("yard-bob", "gate-bob")]
    for limit in (1, 2, 3):
        assert [(each["tracklet_id"], each["to_tracklet_id"]) for each in paged(client, "/links", limit)] == pairs
        names = [each["person"] for each in paged(client, "/persons", limit)]
        assert names == ["P0001", "P0002", "P0003", "P0004"]
    assert all(a < b for a, b in pairwise(names))
