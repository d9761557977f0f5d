"""Layer statistics of a float32 network on a CPU, which are summed up by our own code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models import build
from cnnjax.ops import direct
from cnnjax.ops.conv import compiled_for
from cnnjax.probes import layer_statistics
from tests.counting import random_variables
from tests.gradients import compiled


@pytest.mark.skipif(direct.load() is not None, reason=f"{direct.load()}")
@pytest.mark.parametrize(("name", "x64"), [("resnet8", False), ("resnet8", True), ("preresnet11", False)])
def test_they_are_those_of_xla(name, x64):
    model = build(name, width=4)
    variables = random_variables(model, model.input_shape)
    draw = np.random.default_rng(0)
    batch = draw.normal(size=(6, 16, 16, 3)).astype(np.float32), np.arange(6)

    def statistics():
        return compiled(lambda variables: layer_statistics(model, variables, batch), variables)(variables)

    with jax.enable_x64(x64):
        ours = statistics()
        with compiled_for("tpu"):
            theirs = statistics()
    assert ours.layers == theirs.layers
    for field, reference in theirs.arrays().items():
        if isinstance(reference, jnp.ndarray):
            # A response that is almost 0 may have either sign.
            places = 1e-3 if "activation" in field else 1e-6
            np.testing.assert_allclose(ours.arrays()[field], reference, rtol=2e-3, atol=places, err_msg=field)
