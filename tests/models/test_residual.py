"""What every kind of residual block, and every net with a loop over depth, has to stand."""

import jax
import numpy as np
import pytest

from cnnjax.models import build, stack
from tests.counting import random_variables
from tests.gradients import assert_every_parameter_gets_a_gradient, compiled

NETS = {
    "wrn10_2": {"dropout": 0.3},
    "resnext29_2x64d": {"width": 8, "base_width": 32},
    "se_resnet11": {"reduction": 2},
    "fixup_resnet8": {"remat": True},
    "skipinit_resnet11": {},
    "looks_linear6": {},
}


QUICK = ("se_resnet11", "looks_linear6")  # of the others tests/models/test_every_network.py has the families


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETS]
)
def test_every_parameter_gets_a_gradient(name):
    model = build(name, **{"width": 4, "stage_sizes": (1, 2), "loop": "scan", **NETS[name]})
    assert_every_parameter_gets_a_gradient(model, (8, 8, 3))


@pytest.mark.parametrize("name", NETS)
def test_scanned_and_unrolled_are_the_same_for_one_image_as_for_many(key, name):
    model = build(name, **{"width": 4, "stage_sizes": (1, 3), **NETS[name]})
    variables = random_variables(model, (8, 8, 3))
    images = jax.random.normal(key, (3, 8, 8, 3))

    def apply(loop, v, x):
        return model.clone(loop=loop).apply(v, x, train=False)

    def run(variables, stacked):
        one_by_one = jax.vmap(lambda image: apply("unrolled", variables, image[None])[0])(images)
        return apply("scan", variables, images), apply("scan", stacked, images), one_by_one

    by_block, stacked, one_by_one = compiled(run, variables, stack(variables))(variables, stack(variables))
    scale = np.abs(one_by_one).max()
    np.testing.assert_allclose(by_block, one_by_one, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(stacked, one_by_one, rtol=1e-4, atol=1e-5 * scale)
