"""A script with its own network and optimizer is killed by SIGKILL and started again by the same command.

Alone and by two processes of the launcher, of which one is killed.
"""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from cnnjax.files import read_jsonl

pytestmark = pytest.mark.slow
SCRIPT = """
import hashlib, os, sys, time
from pathlib import Path

from cnnjax.launch import joined

out = Path(sys.argv[1])
with joined():
    import jax
    import numpy as np
    import optax
    from flax import linen as nn

    import cnnjax
    from cnnjax.compilation import use_cache

    use_cache()

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x)))
            return nn.Dense(3)(nn.Dropout(0.2, deterministic=not train)(x.mean((1, 2))))

    class Slowly(cnnjax.Callback):
        def on_step(self, step, metrics):
            time.sleep(0.02)

    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(50, 8, 8, 3)).astype(np.float32), np.arange(50) % 3
    config = cnnjax.Config(steps=40, batch_size=8, evaluate_every=10, checkpoint_every=5)
    rate = optax.cosine_decay_schedule(0.01, 40)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))
    out.with_name(f"process{jax.process_index()}").write_text(str(os.getpid()))
    data = x[:40], y[:40], x[40:], y[40:]
    result = cnnjax.train(config, out, model=Net(), optimizer=optimizer, data=data, callbacks=[Slowly()])
    bits = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.variables))
    print("digest", hashlib.sha256(bits).hexdigest())
"""
LAUNCH = {
    "alone": [],
    "two processes": ["-m", "cnnjax.launch", "--processes", "2", "--devices", "1", "--", sys.executable],
}


def start(kind, out, script):
    command = [sys.executable, *LAUNCH[kind], str(script), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """The digest of the variables at its end."""
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (digest,) = re.findall(r"digest (\w+)", said)
    return digest


def lines(out):
    return [{k: v for k, v in line.items() if k != "time"} for line in read_jsonl(out / "metrics.jsonl")]


@pytest.mark.parametrize("kind", LAUNCH)
def test_a_killed_script_goes_on_to_the_same_bits(tmp_path, kind):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, out = (tmp_path / name / "run" for name in ("whole", "killed"))
    for folder in (whole, out):
        folder.parent.mkdir()
    expected = finish(start(kind, whole, script))

    last = out.with_name("process0" if kind == "alone" else "process1")
    for step in (5, 20):
        process = start(kind, out, script)
        while process.poll() is None and not (out / "checkpoints" / str(step)).exists():
            time.sleep(0.01)
        assert process.poll() is None, process.stderr.read()
        os.kill(int(last.read_text()), signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if kind == "alone" else 137), errors
        assert not (out / "result.json").exists()
    assert finish(start(kind, out, script)) == expected
    assert lines(out) == lines(whole)
