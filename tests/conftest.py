import os

# Tests compile more than they compute. Subprocesses inherit both settings.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's older way to emit loops on a CPU compiles a fifth sooner. An XLA that has dropped the flag says so and
# ends: then delete this line.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import pytest

pytest_plugins = ["tests.archives"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests keep data and compiled programs to themselves: one folder for all workers and subprocesses."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    root.mkdir(exist_ok=True)
    os.environ["CNNJAX_CACHE"] = str(root)
    from cnnjax.compilation import use_cache

    use_cache()
    return root


@pytest.fixture(scope="module")
def x64():
    """Let JAX compute in float64 until a module's tests are done; for `usefixtures` in modules that compare
    two programs beyond a ReLU or a maximum.

    In float32 one of a thousand inputs of a ReLU may fall to the other side of 0 on another processor, and
    that moves a small network's gradient by percents.
    """
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def key():
    return jax.random.key(0)
