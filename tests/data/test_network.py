import socket
import ssl
import time
import urllib.error
import urllib.request
from email.message import Message

import pytest

from cnnjax.data import network


def test_offline():
    assert "no network in tests" in str(network.unreachable("https://www.example.org/file"))


def test_a_server_that_answers(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("content")
    assert network.unreachable((tmp_path / "file").as_uri()) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (urllib.error.HTTPError("http://x", 404, "Not Found", Message(), None), "HTTP Error 404: Not Found"),
        (urllib.error.URLError(ssl.SSLError("unknown authority")), None),  # the server is there
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_reasons(monkeypatch, error, reason):
    def fail(*_args, **_keywords):
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    assert network.unreachable("http://x") == reason


def test_a_name_server_that_hangs_does_not_hold_us_up(monkeypatch):
    monkeypatch.setattr(network, "_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_keywords: time.sleep(2) or [])
    started = time.perf_counter()
    assert network.unreachable("https://www.example.org/file") == "no answer"
    assert time.perf_counter() - started < 1
