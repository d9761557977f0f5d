"""Closed forms against their limits, their asymptotics and a simulation each where that is cheap."""

import math

import numpy as np
import pytest

from cnnjax.probes import theory


@pytest.mark.parametrize(
    ("moments", "variance", "correlation"),
    [
        (theory.feedforward(4), 1, 1 / 16),
        (theory.feedforward_batch_norm(1), 1, 1 / 2),
        (theory.feedforward_batch_norm(8), 14.63, 1 / 256),
        (theory.residual(2), 4, 9 / 16),
        (theory.rescaled_residual(2), 1, 9 / 16),
        (theory.residual_batch_norm(1, 1.0), 2, 0.75),
        (theory.residual_batch_norm(50, 1.0, theory.PAPER), 51, 0.158),
        (theory.residual_batch_norm(50, 1.0), 153, 0.094),
        (theory.residual_batch_norm(50, 0.5, theory.PAPER), 13.5, 0.280),
        (theory.linear(100), 1, 1),
        (theory.feedforward_arc_cosine(2), 1, 0.302),
        (theory.feedforward_arc_cosine(8), 1, 0.050),
        (theory.residual_arc_cosine(1), 2, 0.75),
    ],
)
def test_known_values(moments, variance, correlation):
    assert moments.variance == pytest.approx(variance, rel=0.01)
    assert moments.correlation == pytest.approx(correlation, abs=0.0006)


@pytest.mark.parametrize(("beta", "correlation"), [(0.5, 0.204), (0.1, 0.807)])
def test_corrected_correlations(beta, correlation):
    assert theory.residual_batch_norm(50, beta).correlation == pytest.approx(correlation, abs=0.0006)


def test_a_highway_net_does_not_shatter_when_its_gates_follow_the_depth():
    assert theory.highway(1000, math.sqrt(1 - 1 / 1000), math.sqrt(1 / 1000)).correlation == pytest.approx(
        math.exp(-0.5), abs=1e-3
    )
    assert theory.highway(7, math.sqrt(0.5), math.sqrt(0.5)) == pytest.approx(theory.rescaled_residual(7))


def slope(values):
    (x1, y1), (x2, y2) = values
    return math.log(y2 / y1) / math.log(x2 / x1)


def test_exponents_of_the_corrected_theory():
    moments = {depth: theory.residual_batch_norm(depth, 1.0) for depth in (10_000, 20_000)}
    assert slope([(d, m.variance) for d, m in moments.items()]) == pytest.approx(
        math.pi / (math.pi - 1), abs=1e-3
    )
    assert slope([(d, m.correlation) for d, m in moments.items()]) == pytest.approx(
        -math.pi / (math.pi - 1) / 2, abs=1e-3
    )
    paper = {depth: theory.residual_batch_norm(depth, 1.0, theory.PAPER) for depth in (10_000, 20_000)}
    assert slope([(d, m.correlation) for d, m in paper.items()]) == pytest.approx(-0.5, abs=1e-3)


def test_without_normalisation_correlation_falls_as_a_cube():
    values = [(depth, theory.feedforward_arc_cosine(depth).correlation) for depth in (5_000, 10_000)]
    assert slope(values) == pytest.approx(-3, abs=0.02)


def test_the_arc_cosine_recursion_is_what_random_layers_do():
    rng = np.random.default_rng(0)
    z = np.array([[1, 0], [0.6, 0.8]]) @ rng.normal(size=(2, 400_000))
    y = np.maximum(z, 0)
    cosine = y[0] @ y[1] / np.linalg.norm(y[0]) / np.linalg.norm(y[1])
    assert cosine == pytest.approx(theory.relu_cosine(0.6), abs=0.005)
    assert np.mean((z > 0).all(0)) == pytest.approx(theory.co_activation(0.6), abs=0.005)


def test_plug_in_theory_of_typical_pairs_is_the_closed_form():
    half, quarter, one = [0.5] * 6, [0.25] * 6, [1.0] * 6
    assert theory.plug_in_feedforward(half, quarter) == pytest.approx(theory.feedforward(6).correlation)
    assert theory.plug_in_residual(half, quarter, 1.0, one) == pytest.approx(theory.residual(6).correlation)
    stream = [1 / math.sqrt(1 + theory.CORRECTED * 0.25 * block) for block in range(6)]
    assert theory.plug_in_residual(half, quarter, 0.5, stream) == pytest.approx(
        theory.residual_batch_norm(6, 0.5).correlation
    )


@pytest.mark.parametrize(
    ("activation", "variance", "q", "growth"),
    [
        ("sigmoid", 1.0, 0.265, 0.236),
        ("sigmoid", 16.0, None, 0.632),
        ("tanh", 1.0, 0.0, 1.0),
        ("tanh", 25 / 9, None, 1.10),
        ("relu", 2.0, 1.0, 1.0),
        ("relu", 1.0, 0.0, math.sqrt(0.5)),
    ],
)
def test_mean_field(activation, variance, q, growth):
    found = theory.mean_field(activation, variance)
    assert found.growth == pytest.approx(growth, abs=0.005)
    assert q is None or found.q == pytest.approx(q, abs=0.005)


def test_the_growth_with_batch_norm():
    assert pytest.approx(1.2112, abs=1e-4) == theory.BATCH_NORM_GROWTH
    z = np.random.default_rng(0).normal(size=1_000_000)
    growth = np.mean(z > 0) / np.maximum(z, 0).var()
    assert growth == pytest.approx(theory.BATCH_NORM_GROWTH**2, rel=0.005)


@pytest.mark.parametrize("activation", theory.ACTIVATIONS)
def test_expectations_of_an_activation_and_its_slope(activation):
    """Against a sum over a fine grid, with slopes by finite differences."""
    z = (np.arange(-120_000, 120_000) + 0.5) * 1e-4
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * 1e-4
    function, _ = theory.ACTIVATIONS[activation]
    x = math.sqrt(1.7) * z
    slopes = (function(x + 1e-6) - function(x - 1e-6)) / 2e-6
    expected = density @ function(x), density @ function(x) ** 2, density @ slopes**2
    found = theory.of_normal(activation, 1.7)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-9)
    growth = math.sqrt(1.7 * expected[2] / (expected[1] - expected[0] ** 2))
    assert theory.batch_norm_growth(activation, 1.7) == pytest.approx(growth, rel=2e-3)


def test_batch_norm_makes_up_for_what_a_sigmoid_takes_away():
    assert theory.mean_field("sigmoid", 1.0).growth < 1 / 4
    assert 1 < theory.batch_norm_growth("sigmoid") < 1.02
    assert theory.batch_norm_growth("relu") == pytest.approx(theory.BATCH_NORM_GROWTH, rel=2e-3)


def test_most_paths_of_a_deep_residual_net_are_of_middling_length():
    lengths = theory.path_lengths(54)
    assert lengths.sum() == pytest.approx(1)
    assert lengths @ np.arange(55) == pytest.approx(27)
    assert lengths[19:36].sum() > 0.95


def test_effective_rank_of_noise():
    assert theory.gaussian_effective_rank(768, 256) == pytest.approx(102.9, abs=0.1)
