from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.models import build, stack, unstack
from cnnjax.optimizers import learning_rate, make_optimizer
from tests.counting import random_variables


def rates(config, steps):
    return [float(learning_rate(config)(jnp.int32(step))) for step in steps]


def test_piecewise_is_the_papers():
    config = Config()
    np.testing.assert_allclose(
        rates(config, [0, 31_999, 32_000, 47_999, 48_000, 63_999]),
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001],
        rtol=1e-6,
    )
    np.testing.assert_allclose(rates(Config(rate_drop=0.2), [32_000, 48_000]), [0.02, 0.004], rtol=1e-6)
    np.testing.assert_allclose(
        rates(Config(warmup_steps=400, warmup="tenth"), [0, 399, 400]), [0.01, 0.01, 0.1], rtol=1e-6
    )


def test_cosine_rises_then_falls_to_nothing():
    config = Config(schedule="cosine", steps=110, warmup_steps=10, learning_rate=1.0)
    expected = [1 / 11, 10 / 11, 1.0, 0.5, 0.5 * (1 + np.cos(np.pi * 0.99))]
    np.testing.assert_allclose(rates(config, [0, 9, 10, 60, 109]), expected, rtol=1e-4)


def test_constant():
    config = Config(schedule="constant", warmup_steps=1, learning_rate=0.2)
    np.testing.assert_allclose(rates(config, [0, 1, 10**6]), [0.1, 0.2, 0.2], rtol=1e-6)


def test_what_decays():
    params = {
        "conv": {"kernel": jnp.ones((3, 3, 2, 2))},
        "bn": {"scale": jnp.ones(2)},
        "classifier": {"kernel": jnp.ones((2, 5))},
    }
    zeros = jax.tree.map(jnp.zeros_like, params)
    choices = {"convolutions": {"conv"}, "kernels": {"conv", "classifier"}, "all": set(params)}
    for decay, decayed in choices.items():
        optimizer = make_optimizer(Config(decay=decay, weight_decay=0.5, learning_rate=0.1))
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        for name, update in updates.items():
            (update,) = update.values()
            np.testing.assert_allclose(update, -0.05 if name in decayed else 0.0, rtol=1e-6)


def test_nesterov_looks_ahead():
    """Two steps of its recursion by hand: v = momentum v + g, w -= rate (momentum v + g)."""
    optimizer = make_optimizer(Config(nesterov=True, momentum=0.5, weight_decay=0.0, learning_rate=0.1))
    state = optimizer.init(jnp.zeros(1))
    for gradient, expected in ((1.0, -0.1 * 1.5), (2.0, -0.1 * (0.5 * 2.5 + 2.0))):
        update, state = optimizer.update(jnp.array([gradient]), state, jnp.zeros(1))
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_decay_is_the_same_for_stacked_variables():
    """Stacked over depth a kernel has one more axis; what decays must not change with the layout."""
    model = build("resnet8", width=2, stage_sizes=(1, 3))
    params = random_variables(model, (8, 8, 3))["params"]

    def update(params):
        optimizer = make_optimizer(Config(weight_decay=0.5, learning_rate=0.1))
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optimizer.update(zeros, optimizer.init(params), params)[0]

    by_block = update(params)
    assert np.abs(by_block["stage2_block03"]["conv1"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, unstack(update(stack(params))), by_block)


def test_adam_has_coupled_decay():
    """Its first steps by hand: the decay is part of the gradient whose moments are averaged."""
    rate, decay, w = 0.1, 0.5, np.array([2.0, -1.0, 0.5])
    gradients = [np.array([1.0, 0.5, -2.0]), np.array([-3.0, 0.25, 1.0])]
    config = Config(
        optimizer="adam", schedule="constant", learning_rate=rate, weight_decay=decay, decay="all"
    )
    optimizer = make_optimizer(config)
    params = jnp.asarray(w)
    state = optimizer.init(params)
    mean = square = np.zeros(3)
    for step, gradient in enumerate(gradients, start=1):
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = params + updates
        gradient = gradient + decay * w
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        w = w - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(params, w, rtol=1e-5)


PARAMS = {"layer": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "head": {"kernel": jnp.ones((2, 2))}}
GRADIENTS = jax.tree.map(lambda w: 0.5 * w, PARAMS)


def updated(config, gradients=(GRADIENTS,), optimizer=None):
    """The parameters after an update by each of the gradients."""
    optimizer = optimizer or make_optimizer(config)
    params, state = PARAMS, optimizer.init(PARAMS)
    for gradient in gradients:
        extra = {"value": 1.0, "grad": gradient, "value_fn": lambda params: 1.0}
        updates, state = optax.with_extra_args_support(optimizer).update(gradient, state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    "name",
    [
        "adabelief",
        "adagrad",
        "adamw",
        "lamb",
        "lars",
        "lion",
        "muon",
        "nadam",
        "novograd",
        "radam",
        "rmsprop",
        "yogi",
    ],
)
def test_optaxs_optimizers_by_name(name):
    config = Config(optimizer=name, schedule="constant", learning_rate=1e-2, weight_decay=0.0)
    params = updated(config)
    assert all((a != b).all() for a, b in zip(*map(jax.tree.leaves, (params, PARAMS)), strict=True))


def test_options_reach_the_optimizer_and_decay_is_decoupled_where_optax_has_it_so():
    fields = {"schedule": "constant", "learning_rate": 1e-2, "weight_decay": 0.1, "decay": "kernels"}
    ours = updated(Config(optimizer="adamw", optimizer_options={"b2": 0.95}, **fields))
    mask = jax.tree.map_with_path(lambda path, w: path[-1].key == "kernel", PARAMS)
    theirs = updated(None, optimizer=optax.adamw(1e-2, b2=0.95, weight_decay=0.1, mask=mask))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), ours, theirs)


@pytest.mark.parametrize(
    ("name", "options", "at", "expected"),
    [
        ("warmup_cosine", {}, [0, 10, 110], [0.0, 0.2, 0.0]),
        ("linear", {"end_value": 0.1}, [0, 55, 110], [0.2, 0.15, 0.1]),
        ("exponential", {"decay_rate": 0.5}, [0, 110], [0.2, 0.1]),
        ("warmup_constant", {}, [0, 5, 60], [0.0, 0.1, 0.2]),
        ("cosine_onecycle", {}, [33], [0.2]),
        (
            "piecewise_constant",
            {"boundaries_and_scales": {"20": 0.5, "9": 0.1}},
            [0, 8, 9, 19, 20],
            [0.2, 0.2, 0.02, 0.02, 0.01],
        ),
    ],
)
def test_optaxs_schedules_by_name(name, options, at, expected):
    config = Config(schedule=name, schedule_options=options, steps=110, warmup_steps=10, learning_rate=0.2)
    np.testing.assert_allclose(rates(config, at), expected, atol=1e-6)


def test_groups_have_their_own_rate_and_decay():
    fields = {
        "schedule": "constant",
        "momentum": 0.0,
        "learning_rate": 0.1,
        "weight_decay": 0.5,
        "decay": "all",
    }
    params = updated(Config(groups={"*/bias": {"rate": 2, "decay": 0}, "head/*": {"rate": 0.1}}, **fields))
    np.testing.assert_allclose(params["layer"]["bias"], 1 - 0.2 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(params["layer"]["kernel"], 1 - 0.1 * (0.5 + 0.5), rtol=1e-6)
    np.testing.assert_allclose(params["head"]["kernel"], 1 - 0.01 * (0.5 + 0.5), rtol=1e-6)


def test_gradients_are_clipped_by_value_and_by_norm():
    fields = {"schedule": "constant", "momentum": 0.0, "learning_rate": 1.0, "weight_decay": 0.0}
    np.testing.assert_allclose(updated(Config(clip_value=0.25, **fields))["layer"]["bias"], 0.75)
    moved = jax.tree.map(lambda a, b: a - b, updated(Config(clip_norm=0.1, **fields)), PARAMS)
    np.testing.assert_allclose(optax.tree.norm(moved), 0.1, rtol=1e-5)


def test_accumulated_gradients_make_one_update_of_their_mean():
    fields = {
        "schedule": "piecewise",
        "boundaries": (2,),
        "momentum": 0.0,
        "learning_rate": 1.0,
        "weight_decay": 0.0,
    }
    several = [
        jax.tree.map(lambda g, factor=factor: factor * g, GRADIENTS) for factor in (0.0, 2.0, 1.0, 3.0)
    ]
    once = updated(Config(accumulate=2, **fields), several[:2])
    np.testing.assert_allclose(once["layer"]["bias"], 1 - 0.5, rtol=1e-6)
    twice = updated(Config(accumulate=2, **fields), several)  # the rate has dropped at batch 2
    np.testing.assert_allclose(twice["layer"]["bias"], 1 - 0.5 - 0.1 * 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adm"}, "optimizer='adm': did you mean adam"),
        ({"optimizer_options": {"b3": 1}}, "optimizer='sgd' has no option 'b3'"),
        ({"schedule": "step"}, "schedule='step': "),
        ({"schedule": "exponential"}, "needs decay_rate: give schedule_options decay_rate=VALUE"),
        ({"schedule_options": {"alpha": 1}}, "takes no schedule_options"),
    ],
)
def test_what_optax_does_not_have_is_one_line(fields, message):
    with pytest.raises(UserError, match=message) as told:
        make_optimizer(Config(**fields))
    assert "\n" not in str(told.value)


def test_a_pattern_that_matches_nothing_is_told():
    with pytest.raises(UserError, match=r"no parameter matches 'stem/\*': they are called"):
        updated(Config(groups={"stem/*": {"rate": 2}}))
