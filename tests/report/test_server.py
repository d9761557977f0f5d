"""The page that is served: what it answers, and what it refuses."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
import uvicorn

from cnnjax.errors import UserError
from cnnjax.report.server import application, listen
from tests.report.folders import append_steps, write_run


@pytest.fixture
def served(tmp_path):
    """The address, and the folder."""
    (tmp_path / "secret.txt").write_text("secret")
    runs = tmp_path / "runs"
    runs.mkdir()
    server = uvicorn.Server(uvicorn.Config(application([runs]), log_level="error", lifespan="off"))
    bound = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield bound.getsockname()[1], runs
    server.should_exit = True
    thread.join()
    bound.close()


def ask(port, path="/data.json", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def raw(port, target, method="GET"):
    """The status of a request whose target no client would send."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = connection.makefile("rb").read()
    return int(answer.split()[1]), answer


def test_new_content_is_sent_once(served):
    port, runs = served
    status, body, headers = ask(port)
    assert (status, json.loads(body)["title"]) == (200, "No runs yet in runs")
    assert ask(port, **{"If-None-Match": headers["ETag"]})[:2] == (304, b"")
    folder = write_run(runs / "a", done=10)
    status, body, later = ask(port, **{"If-None-Match": headers["ETag"]})
    assert status == 200
    assert json.loads(body)["overview"][1][0][3] == "step 10 of 40"
    append_steps(folder, 11, 12)
    status, body, _ = ask(port, **{"If-None-Match": later["ETag"]})
    assert json.loads(body)["overview"][1][0][3] == "step 12 of 40"


def test_the_page_asks_for_it(served):
    status, body, _ = ask(served[0], "/")
    assert status == 200
    assert b'data-live="data.json"' in body


@pytest.mark.parametrize(
    "target",
    ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "//secret.txt",
     "/data.json/../../secret.txt", "/a/config.json", "/runs/../../secret.txt", "/..\\secret.txt"],
)  # fmt: skip
def test_no_other_path_is_answered(served, target):
    write_run(served[1] / "a")
    status, answer = raw(served[0], target)
    assert status in (400, 404)
    assert b"secret\n" not in answer
    assert b"model" not in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(served, method):
    assert raw(served[0], "/data.json", method)[0] == 405


def test_a_foreign_name_is_refused(served):
    assert ask(served[0], Host="evil.example")[0] == 400
    assert ask(served[0], Host="localhost")[0] == 200


def test_a_folder_that_has_gone_may_come_back(served):
    port, runs = served
    runs.rename(runs.with_name("moved"))
    status, body, _ = ask(port)
    assert status == 503
    assert b"there is no folder" in body
    runs.with_name("moved").rename(runs)
    assert ask(port)[0] == 200


def test_a_port_that_is_taken():
    with listen("127.0.0.1", 0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port} can't be used"):
            listen("127.0.0.1", port)
