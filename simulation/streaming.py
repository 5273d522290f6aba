"""A site as live cameras: each is sent by a real RTSP server (GStreamer's), through a proxy that makes faults.

The servers are processes of their own, run by a Python that has GStreamer's bindings; see ``simulation.rtsp_server``.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from simulation.clips import Clip, encode, images_of
from simulation.faults import FaultPlan, Proxy
from simulation.site import MARKER

Result = TypeVar("Result")

PACKAGES = ("python3-gi", "gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good",
            "gstreamer1.0-plugins-bad", "glib-networking")  # fmt: skip
_SERVER = Path(__file__).with_name("rtsp_server.py")
_START_SECONDS = 20.0
_NOTHING = FaultPlan()
_CHECK = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
names = ("appsrc", "h264parse", "h265parse", "rtph264pay", "rtph265pay")
sys.exit(any(Gst.ElementFactory.find(name) is None for name in names))
"""


class StreamingError(RuntimeError):
    """No server can be started; the message says why and what to do."""


@cache
def python_with_gstreamer() -> str | None:
    """The first Python that can run the server: this one, or the system's; None where none can."""
    for python in dict.fromkeys((sys.executable, "/usr/bin/python3")):
        try:
            done = subprocess.run([python, "-I", "-c", _CHECK], capture_output=True, timeout=60, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return python
    return None


def need_gstreamer() -> str:
    """That Python.

    Raises:
        StreamingError: Where there is none.
    """
    python = python_with_gstreamer()
    if python is None:
        raise StreamingError(f"GStreamer's RTSP server is missing; on Debian: apt-get install {' '.join(PACKAGES)}")
    return python


@dataclass(frozen=True)
class Login:
    """Who may watch.

    Attributes:
        user: Name.
        password: In clear.
    """

    user: str
    password: str


@dataclass(frozen=True)
class Serving:
    """How cameras are served.

    Attributes:
        first_port: Of the first camera; the next has the next. 0: any that are free.
        plan: What goes wrong.
        login: Who may watch; None for everybody.
        from_start: Whether every first client sees the clip from its first frame to its last, once; otherwise the
            camera films all the time, clip after clip.
        certificate: PEM file with certificate and key, with which the stream is encrypted; None for none.
        log: Folder for ``<camera>.txt``: the number and the UTC of every frame sent.
    """

    first_port: int = 0
    plan: FaultPlan = _NOTHING
    login: Login | None = None
    from_start: bool = False
    certificate: Path | None = None
    log: Path | None = None


class _Camera:
    """One camera: its server's process, its proxy, and what is planned for them."""

    def __init__(self, name: str, clip: Clip, port: int, folder: Path, serving: Serving) -> None:
        self.name = name
        self.faults = serving.plan.of(name)
        self._serving = serving
        units = folder / f"{name}.units"
        clip.write(units)
        login = serving.login
        self._settings = {
            "name": name, "codec": clip.codec, "fps": clip.fps, "gop": clip.gop, "units": str(units), "port": 0,
            "from_start": serving.from_start, "user": login.user if login else None,
            "password": login.password if login else None,
            "certificate": str(serving.certificate) if serving.certificate else None,
            "log": str(serving.log / f"{name}.txt") if serving.log else None,
        }  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self._server_port: int | None = None
        self._began = 0.0
        self.proxy = Proxy(
            self.faults, port=port, server_port=lambda: self._server_port, encrypted=serving.certificate is not None
        )

    @property
    def url(self) -> str:
        scheme = "rtsps" if self._serving.certificate else "rtsp"
        return f"{scheme}://127.0.0.1:{self.proxy.port}/{self.name}"

    async def listen(self, began: float) -> None:
        """Let clients in; the plan began at this time of the loop."""
        self._began = began
        await self.proxy.open(began=began)

    async def restart(self) -> None:
        """Run the server again, and listen."""
        await self.start()
        await self.listen(self._began)

    async def start(self) -> None:
        """Run the server."""
        self._process = await asyncio.create_subprocess_exec(
            need_gstreamer(), "-I", str(_SERVER), json.dumps(self._settings),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if self._process.stdout is None:
            raise StreamingError("the server's output cannot be read")
        line = (await asyncio.wait_for(self._process.stdout.readline(), _START_SECONDS)).split()
        if len(line) != 2 or line[0] != b"ready":
            raise StreamingError(f"camera {self.name}: the RTSP server did not start")
        self._server_port = int(line[1])

    async def kill(self) -> None:
        """Kill the server as the system would; nobody listens any more."""
        self._server_port = None
        await self.proxy.close()
        if self._process is not None:
            with suppress(ProcessLookupError):  # it may have ended by itself
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def follow_plan(self) -> None:
        """Kill and restart when the plan says so."""
        kills = [each for each in self.faults.faults if each.kind == "kill"]
        await asyncio.gather(*(self._follow(each.at_seconds, each.for_seconds, each.every_seconds) for each in kills))

    async def _follow(self, at: float, lasting: float, every: float | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.0, self._began + at - loop.time()))
            await self.kill()
            self.faults.counts["kill"] += 1
            await asyncio.sleep(lasting)
            await self.restart()
            if every is None:
                return
            at += every


class Streams:
    """Cameras that are served while the context lasts, from a thread of their own."""

    def __init__(self, clips: Mapping[str, Clip], serving: Serving | None = None) -> None:
        """Nothing runs yet.

        Args:
            clips: By camera.
            serving: How.
        """
        self._serving = serving or Serving()
        self._folder = tempfile.TemporaryDirectory(prefix="streams-")
        first = self._serving.first_port
        self._cameras = {
            name: _Camera(name, clip, first + number if first else 0, Path(self._folder.name), self._serving)
            for number, (name, clip) in enumerate(clips.items())
        }
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="streams", daemon=True)
        self._plans: Future[Any] | None = None

    def __enter__(self) -> Self:
        """Start all servers.

        Raises:
            StreamingError: When that is not possible.
        """
        self._thread.start()
        try:
            need_gstreamer()
            self._wait(self._start())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._plans = asyncio.run_coroutine_threadsafe(self._follow(), self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._plans is not None:
            self._plans.cancel()
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._folder.cleanup()

    @property
    def urls(self) -> dict[str, str]:
        """The address of each camera; it stays the same when its server is killed and restarted."""
        return {name: camera.url for name, camera in self._cameras.items()}

    def kill(self, name: str) -> None:
        """Kill a camera's server; its port refuses from then on."""
        self._wait(self._cameras[name].kill())

    def restart(self, name: str) -> None:
        """Run a killed camera's server again, on the same port."""
        self._wait(self._cameras[name].restart())

    def counts(self, name: str) -> Counter[str]:
        """What a camera's proxy let through, and what went wrong."""
        return self._cameras[name].faults.counts

    async def _start(self) -> None:
        cameras = list(self._cameras.values())
        await asyncio.gather(*(camera.start() for camera in cameras))
        began = self._loop.time()
        await asyncio.gather(*(camera.listen(began) for camera in cameras))

    async def _follow(self) -> None:
        await asyncio.gather(*(camera.follow_plan() for camera in self._cameras.values()))

    async def _stop(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for camera in self._cameras.values():
            await camera.kill()

    def _wait(self, job: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()


def cameras_of(site: Path) -> dict[str, dict[str, Any]]:
    """What the site says of each of its cameras: ``modality``, ``recording``, ``fps``.

    Raises:
        StreamingError: When the folder holds no site.
    """
    try:
        found: dict[str, dict[str, Any]] = json.loads((site / MARKER).read_text(encoding="utf-8"))["cameras"]
    except (OSError, json.JSONDecodeError, KeyError):
        raise StreamingError(f"{site}: holds no site; python -m simulation site writes one") from None
    return found


def modalities_of(site: Path, *, number: int = 1) -> dict[str, str]:
    """The modality of each camera that `clips_of` gives.

    Raises:
        StreamingError: When the folder holds no site.
    """
    cameras = cameras_of(site)
    return {camera: str(cameras[recording]["modality"]) for camera, recording in _copies(list(cameras), number)}


def clips_of(
    site: Path, *, seconds: float, number: int = 1, tell: Callable[[str], None] = lambda sentence: None
) -> dict[str, Clip]:
    """Encode a rendered site's recordings.

    Args:
        site: Folder that ``python -m simulation site`` wrote.
        seconds: Of each recording; the camera films them again and again.
        number: Cameras of each recording.
        tell: Told of each recording before its encoding.

    Returns:
        By camera: ``gate``, or ``gate_1``, ``gate_2``, ... where there are several.

    Raises:
        StreamingError: When the folder holds no site.
    """
    clips = {}
    for name, camera in cameras_of(site).items():
        tell(f"encoding {name}")
        images = images_of(site / camera["recording"], most=max(1, round(seconds * camera["fps"])))
        clips[name] = encode(images, fps=camera["fps"])
    return {camera: clips[recording] for camera, recording in _copies(list(clips), number)}


def _copies(names: Sequence[str], number: int) -> list[tuple[str, str]]:
    if number == 1:
        return [(name, name) for name in names]
    return [(f"{name}_{copy}", name) for copy in range(1, number + 1) for name in names]
