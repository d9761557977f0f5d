import shutil
import signal

import jax
import pytest

from tests.training import tiny


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """`tiny.CONFIG`, trained; for reading only."""
    return tiny.train(tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture
def run(tiny_run, tmp_path):
    """The folder of a copy of `tiny_run`."""
    return shutil.copytree(tiny_run.out, tmp_path / "run")


@pytest.fixture
def compiled():
    """What is compiled, as it happens."""
    events = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def ctrl_c():
    """SIGINT raises KeyboardInterrupt, also where the tests were started in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
