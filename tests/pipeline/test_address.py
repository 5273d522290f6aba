import pytest

from pipeline.address import hide_secrets, is_live, without_secrets


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.1:554/s1", "rtsp://***@10.0.0.1:554/s1"),
        ("rtsp://admin@10.0.0.1/s1", "rtsp://***@10.0.0.1/s1"),
        ("RTSPS://a:p@ss@word@10.0.0.1/s1", "RTSPS://***@10.0.0.1/s1"),
        ("http://10.0.0.1/v?user=admin&pwd=secret#x", "http://10.0.0.1/v?user=***&pwd=***#***"),
        ("http://10.0.0.1/v?t0ken", "http://10.0.0.1/v?***"),
        ("http://a:b@[::1]:80/v?t=1;u=2", "http://***@[::1]:80/v?t=***;u=***"),
        ("https://10.0.0.1/~a@b", "https://***@b"),  # an address that could be read both ways hides too much
        ("rtsp://a:p#w@10.0.0.1/s1", "rtsp://***@10.0.0.1/s1"),
        ("http://10.0.0.1/v#token=t0ken&x", "http://10.0.0.1/v#token=***&***"),
        (
            "rtsp://10.0.0.1:554/user=admin&password=secret&channel=1&stream=0.sdp",
            "rtsp://10.0.0.1:554/user=***&password=***&channel=1&stream=0.sdp",
        ),
        ("rtsp://10.0.0.1/s1", "rtsp://10.0.0.1/s1"),
        ("recordings/a@b.mp4", "recordings/a@b.mp4"),
        ("file:///a:b@c.mp4", "file:///a:b@c.mp4"),
        ("0", "0"),
    ],
)
def test_user_password_and_query_values_are_hidden(source: str, shown: str) -> None:
    assert without_secrets(source) == shown


def test_a_strangers_text_tells_no_secret_in_any_spelling() -> None:
    source = "rtsp://admin:p%40ss-w0rd@10.0.0.1/s1?token=t0ken"
    text = f"{source} failed: p@ss-w0rd rejected, p%40ss-w0rd, rtsp://other:pw@10.0.0.2/x, token t0ken"
    assert hide_secrets(text, source) == (
        "rtsp://***@10.0.0.1/s1?token=*** failed: *** rejected, ***, rtsp://***@10.0.0.2/x, token ***"
    )
    in_path = "rtsp://10.0.0.1/user=admin&password=hunter2&channel=1.sdp"
    assert hide_secrets("401 for hunter2", in_path) == "401 for ***"


@pytest.mark.parametrize("source", ["rtsp://a/b", "RTSPS://a/b", "http://a/b", "https://a", "0", "12", "/dev/video0"])
def test_streams_and_devices_are_live(source: str) -> None:
    assert is_live(source)


@pytest.mark.parametrize("source", ["a.mp4", "rtsp", "/devices/a.mp4", "file:///a.mp4", "gopher://a", "00:12.mp4"])
def test_files_are_not(source: str) -> None:
    assert not is_live(source)
