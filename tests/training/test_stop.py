import os
import signal

import pytest

from cnnjax.training.stop import stop_on_signals


def test_signals_ask_to_stop_only_from_the_first_step_on(ctrl_c, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        with pytest.raises(KeyboardInterrupt):  # nothing is there to be saved: it ends at once
            os.kill(os.getpid(), signal.SIGINT)
        stop.listen()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)  # the same, sent by a cluster and by our launcher
        monkeypatch.setattr("cnnjax.training.stop.TWICE", -1.0)
        with pytest.raises(KeyboardInterrupt):  # a second one, later, acts as usual
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
