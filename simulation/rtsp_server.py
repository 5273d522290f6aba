"""The RTSP server of ``python -m simulation stream``: GStreamer's, with one camera's encoded frames, in real time.

A program of its own, run by a Python that has GStreamer's bindings (Debian: that of the system), so it imports nothing
else. It ends when its standard input ends, and so never outlives who started it.
"""

import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtspServer  # noqa: E402 (the versions come first)

_SECOND = 1_000_000_000
_PIPELINE = (
    '( appsrc name=camera is-live=true format=time caps="video/x-{codec},stream-format=byte-stream,alignment=au" '
    "! {codec}parse config-interval=-1 ! rtp{codec}pay name=pay0 pt=96 mtu=1400 )"
)


def read_units(path: Path) -> list[bytes]:
    """The encoded frames of a file in which the length of each stands before it."""
    data, units, at = path.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return units


class Camera:
    """Gives one client's (or all clients' shared) pipeline its frames when they are due."""

    def __init__(self, settings: dict[str, Any], units: list[bytes], log: Any) -> None:
        self._fps = float(settings["fps"])
        self._gop = int(settings["gop"])
        self._from_start = bool(settings["from_start"])
        self._units = units
        self._log = log
        self._began = time.monotonic()

    def attach(self, factory: Any, media: Any) -> None:
        """Feed a pipeline that is about to start."""
        source = media.get_element().get_by_name("camera")
        state: dict[str, Any] = {"number": None}
        source.connect("need-data", lambda element, size: self._begin(element, state))
        media.connect("unprepared", lambda which: state.update(number=-1))

    def _begin(self, source: Any, state: dict[str, Any]) -> None:
        """Start with the next frame that can be decoded alone."""
        if state["number"] is not None:
            return
        now = time.monotonic()
        first = 0 if self._from_start else int((now - self._began) * self._fps / self._gop + 1) * self._gop
        due = now if self._from_start else self._began + first / self._fps
        state.update(number=first, first=first, due=due, running=source.get_current_running_time())
        state["offset"] = int((due - now) * _SECOND)
        GLib.timeout_add(max(0, round((due - now) * 1000)), self._push, source, state)

    def _push(self, source: Any, state: dict[str, Any]) -> bool:
        number = state["number"]
        if number < 0:
            return False
        if self._from_start and number >= len(self._units):
            source.emit("end-of-stream")
            return False
        buffer = Gst.Buffer.new_wrapped(self._units[number % len(self._units)])
        since = (number - state["first"]) / self._fps
        buffer.pts = buffer.dts = state["running"] + state["offset"] + int(since * _SECOND)
        buffer.duration = int(_SECOND / self._fps)
        if self._log:
            self._log.write(f"{number} {time.time():.6f}\n")
        if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            return False
        state["number"] = number + 1
        wait = state["due"] + since + 1 / self._fps - time.monotonic()
        GLib.timeout_add(max(0, round(wait * 1000)), self._push, source, state)
        return False


def _protect(server: Any, factory: Any, settings: dict[str, Any]) -> None:
    """Ask for user and password, and encrypt, where the settings say so."""
    auth = GstRtspServer.RTSPAuth.new()
    if settings.get("certificate"):
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(settings["certificate"]))
    role = "viewer" if settings.get("user") else "anonymous"
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", role)
    if settings.get("user"):
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(settings["user"], settings["password"]), token)
    else:
        auth.set_default_token(token)
    permissions = GstRtspServer.RTSPPermissions.new()
    for right in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role(role, right, True)
    factory.set_permissions(permissions)
    server.set_auth(auth)


def main(settings: dict[str, Any]) -> int:
    """Serve ``rtsp://127.0.0.1:<port>/<name>`` until standard input ends; says ``ready`` with the port once it does."""
    Gst.init(None)
    log = open(settings["log"], "a", buffering=1, encoding="ascii") if settings.get("log") else None  # noqa: PTH123, SIM115
    camera = Camera(settings, read_units(Path(settings["units"])), log)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(str(settings["port"]))
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_shared(True)
    factory.set_launch(_PIPELINE.format(codec=settings["codec"]))
    factory.connect("media-configure", camera.attach)
    if settings.get("user") or settings.get("certificate"):
        _protect(server, factory, settings)
    server.get_mount_points().add_factory(f"/{settings['name']}", factory)
    loop = GLib.MainLoop()
    if server.attach(None) == 0:
        sys.stderr.write(f"port {settings['port']} cannot be used\n")
        return 1
    GLib.io_add_watch(0, GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP | GLib.IOCondition.ERR, lambda *_: loop.quit())
    sys.stdout.write(f"ready {server.get_bound_port()}\n")
    sys.stdout.flush()
    loop.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(json.loads(sys.argv[1])))
