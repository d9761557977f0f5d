"""By hand, `python -m tests.probes.every_network [NAME ...]`: does a probe see every layer of every network?

Networks of the papers' sizes are traced, not run. All that are listed take some minutes.
"""

import sys

import jax
import jax.numpy as jnp

from cnnjax.models import build, list_models
from cnnjax.probes import layer_statistics


def check(name):
    """The statistics of the network, as shapes; AssertionError if a kernel's layer is missing."""
    model = build(name)
    images = jax.ShapeDtypeStruct((2, *model.input_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    found = jax.eval_shape(lambda v, x, y: layer_statistics(model, v, (x, y)), variables, images, labels)
    paths = ("/".join(key.key for key in path) for path, _ in jax.tree.leaves_with_path(variables["params"]))
    assert sorted(found.layers) == sorted(
        path.removesuffix("/kernel") for path in paths if path.endswith("/kernel")
    )
    for field, values in found.arrays().items():
        over = found.blocks if field in ("blocks", "branch_rms", "stream_rms") else found.layers
        assert len(values) == len(over), field
    return found


if __name__ == "__main__":
    failed = 0
    for name in sys.argv[1:] or list_models():
        try:
            found = check(name)
            print(f"{name}: {len(found.layers)} layers, {len(found.blocks)} blocks", flush=True)
        except Exception as error:
            failed += 1
            print(f"{name}: FAILED, {type(error).__name__}: {error}", flush=True)
    sys.exit(failed > 0)
