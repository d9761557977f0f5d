import os

import jax
import pytest

pytest_plugins = ["tests.archives"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests keep their data and compiled programs to themselves, subprocesses included."""
    root = tmp_path_factory.mktemp("cache")
    os.environ["CNNJAX_CACHE"] = str(root)
    from cnnjax.compilation import use_cache

    use_cache()
    return root


@pytest.fixture(scope="session")
def key():
    return jax.random.key(0)


@pytest.fixture(scope="module")
def quick_compilation():
    """Programs that run once, on next to nothing, need not be fast."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
