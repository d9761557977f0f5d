import os

# Tests compile more than they compute. Subprocesses inherit it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

pytest_plugins = ["tests.archives"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests keep their data and compiled programs to themselves: one folder for all workers and subprocesses."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    root.mkdir(exist_ok=True)
    os.environ["CNNJAX_CACHE"] = str(root)
    from cnnjax.compilation import use_cache

    use_cache()
    return root


@pytest.fixture(scope="session")
def key():
    return jax.random.key(0)
