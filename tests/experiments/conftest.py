import jax
import pytest


@pytest.fixture(scope="module")
def quick_compilation():
    """Programs that run once, on next to nothing, need not be fast."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
