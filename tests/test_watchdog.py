import subprocess
import sys

import pytest

RUN = """
import bdb, os, sys, time
from cnnjax import watchdog
watchdog.GRACE = 0.1

def stuck_in_a_file_system():
    time.sleep(600)

def working():
    for _ in range(30):
        time.sleep(0.1)
        watchdog.moved()
    os._exit(0)

class Held(bdb.Bdb):
    def user_line(self, frame):
        time.sleep(3)
        os._exit(0)

watchdog.watch(1.0)
"""


@pytest.mark.parametrize(
    ("act", "code"),
    [("stuck_in_a_file_system()", 75), ("working()", 0), ("Held().run('1 + 1')", 0)],
)
def test_a_process_that_gets_nothing_done_ends(act, code):
    ended = subprocess.run([sys.executable, "-c", RUN + act], capture_output=True, text=True, timeout=60)
    assert ended.returncode == code
    assert ("got nothing done for 1 s" in ended.stderr) == bool(code)
    assert ("in stuck_in_a_file_system" in ended.stderr) == bool(code)
