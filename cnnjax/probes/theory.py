"""What theory says of gradients in deep networks at initialisation: closed forms, each with its conditions.

Balduzzi, Frean, Leary, Lewis, Ma and McWilliams, "The Shattered Gradients Problem", 2017 (arXiv 1702.08591):
the correlation of the gradients at two inputs falls as 2^-L in a feedforward net, as (3/4)^L in a residual
net and as 1 / sqrt(L) in a residual net with batch normalisation. Conditions of all forms here that do not
say others: fully connected ReLU layers of equal, large width N; weights of variance 2 / N (He et al.) that
are independent of the inputs; no biases; an expectation over weights. A depth L counts the layers between
the neuron whose gradient it is and the output. A pair of inputs is typical when in every layer half of the
neurons are active for each and a quarter for both: BatchNorm keeps it so, without it pairs grow alike.

Two forms correct the paper's. BatchNorm takes away the mean of a ReLU, which is 1 / pi of its power, so a
branch adds (1 - 1 / pi) beta^2 to the variance of a residual stream, and not beta^2; and for the same reason
gradients of a feedforward net grow by pi / (pi - 1) per layer. Without normalisation, the active neurons of
a pair follow the arc-cosine recursion (Cho and Saul 2009; Poole et al. 2016).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

PAPER = 1.0
"""Variance that a branch with beta = 1 adds to the stream, in the paper's theorem 3."""

CORRECTED = 1 - 1 / math.pi
"""The same, less the mean that BatchNorm takes away: 2 * (1 / 2 - 1 / (2 pi))."""

BATCH_NORM_GROWTH = math.sqrt(math.pi / (math.pi - 1))
"""Factor of the gradient's norm per BatchNorm-ReLU layer of a plain net at initialisation, 1.2112.

E[relu'^2] / Var[relu] = (1 / 2) / ((pi - 1) / (2 pi)) is its square, for large batches (Yang et al. 2019,
arXiv 1902.08129).
"""


class Moments(NamedTuple):
    """Second moments of a neuron's gradients at a pair of inputs, relative to the output's gradient."""

    variance: float
    covariance: float

    @property
    def correlation(self) -> float:
        """Covariance over variance."""
        return self.covariance / self.variance


def feedforward(depth: int) -> Moments:
    """Theorem 1: variance 1, covariance 2^-L. Typical pairs; the variance needs a net without BatchNorm."""
    return Moments(1.0, 0.5**depth)


def feedforward_batch_norm(depth: int) -> Moments:
    """Variance (pi / (pi - 1))^(L - 1), correlation 2^-L: BatchNorm before each ReLU, standardised inputs."""
    variance = BATCH_NORM_GROWTH ** (2 * (depth - 1))
    return Moments(variance, variance * 0.5**depth)


def residual(depth: int) -> Moments:
    """Theorem 2: variance 2^L, covariance (3/2)^L. Typical pairs, no BatchNorm, x + W relu(x)."""
    return Moments(2.0**depth, 1.5**depth)


def rescaled_residual(depth: int) -> Moments:
    """Theorem 2 for (x + W relu(x)) / sqrt(2): variance 1, covariance (3/4)^L. Conditions as there."""
    return Moments(1.0, 0.75**depth)


def highway(depth: int, carry: float, transform: float) -> Moments:
    """Corollary 1: carry * x + transform * W relu(x), with carry^2 + transform^2 = 1. Typical pairs.

    carry = sqrt(1 - 1 / L) has the correlation exp(-1/2) at any large depth.
    """
    return Moments((carry**2 + transform**2) ** depth, (carry**2 + transform**2 / 2) ** depth)


def residual_batch_norm(depth: int, beta: float, added: float = CORRECTED) -> Moments:
    """Theorem 3 at finite depth: x + beta * W relu(BatchNorm(x)), standardised inputs, typical pairs.

    The stream's variance before block l = 0 ... L - 1 is v = 1 + added * beta^2 * l, and BatchNorm divides
    the branch's gradient by sqrt(v). With `added` = PAPER the variance telescopes to beta^2 L + 1 and the
    correlation falls as 1 / (beta sqrt(L)); with CORRECTED and beta = 1 they go as L^1.467 and L^-0.733.
    """
    variance = covariance = 1.0
    for block in range(depth):
        share = beta**2 / (1 + added * beta**2 * block)
        variance *= 1 + share
        covariance *= 1 + share / 2
    return Moments(variance, covariance)


def linear(depth: int) -> Moments:
    """Linear nets, looks-linear initialisation: the gradient is the same at every input."""
    return Moments(1.0, 1.0)


def relu_cosine(cosine: float) -> float:
    """Cosine of two inputs after W relu(.), from theirs before; weights of any variance, no biases."""
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    return (math.sin(angle) + (math.pi - angle) * cosine) / math.pi


def co_activation(cosine: float) -> float:
    """Fraction of neurons active for both of two inputs with this cosine: 1/4 for orthogonal ones."""
    return (math.pi - math.acos(min(1.0, max(-1.0, cosine)))) / (2 * math.pi)


def feedforward_arc_cosine(depth: int, cosine: float = 0.0) -> Moments:
    """Without normalisation: variance 1, covariance prod(1 - angle_l / pi), from the inputs' cosine on.

    Pairs grow alike, so this falls as L^-3 and not as 2^-L. The width must be large against the depth.
    """
    covariance = 1.0
    for _ in range(depth):
        covariance *= 2 * co_activation(cosine)
        cosine = relu_cosine(cosine)
    return Moments(1.0, covariance)


def residual_arc_cosine(depth: int, cosine: float = 0.0) -> Moments:
    """Residual net without normalisation, x + W relu(x), from the inputs' cosine on."""
    covariance = 1.0
    for _ in range(depth):
        covariance *= 1 + 2 * co_activation(cosine)
        cosine = (cosine + relu_cosine(cosine)) / 2
    return Moments(2.0**depth, covariance)


def plug_in_feedforward(activation: Sequence[float], coactivation: Sequence[float]) -> float:
    """Correlation from measured (co-)activation, a value a layer: prod(p_l / a_l). Any pair, any input."""
    return math.prod(p / a for p, a in zip(coactivation, activation, strict=True))


def plug_in_residual(
    activation: Sequence[float], coactivation: Sequence[float], beta: float, inverse_std: Sequence[float]
) -> float:
    """The same for residual nets: prod((1 + 2 beta^2 s_l^2 p_l) / (1 + 2 beta^2 s_l^2 a_l)).

    `inverse_std` s_l is BatchNorm's 1 / std in block l (root mean square over channels), 1 without BatchNorm.
    """
    terms = zip(activation, coactivation, inverse_std, strict=True)
    return math.prod((1 + 2 * (beta * s) ** 2 * p) / (1 + 2 * (beta * s) ** 2 * a) for a, p, s in terms)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


Function = Callable[[np.ndarray], np.ndarray]
_normal_cdf: Function = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), otypes=[float])


def _normal_pdf(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)


def _sloped(slope: float) -> tuple[Function, Function]:
    """x, and below zero `slope` times x."""
    return lambda x: np.where(x > 0, x, slope * x), lambda x: np.where(x > 0, 1.0, slope)


ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x))),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "relu": _sloped(0.0),
    "leaky relu": _sloped(0.01),
    "prelu": _sloped(0.25),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x: np.exp(np.minimum(x, 0))),
    "exact gelu": (lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _normal_pdf(x)),
}
"""Functions and derivatives, by the names that `cnnjax.probes.layer_statistics` has; PReLU's as it starts."""


class MeanField(NamedTuple):
    """A fixed point of the forward pass: the pre-activations' second moment, and chi there."""

    q: float
    chi: float

    @property
    def growth(self) -> float:
        """Factor of the gradient's norm per layer, sqrt(chi): chi^L is the norm's square after L layers."""
        return math.sqrt(self.chi)


def mean_field(
    activation: str, weight_variance: float, bias_variance: float = 0.0, q: float = 1.0
) -> MeanField:
    """Mean-field theory (Poole et al. 2016; Schoenholz et al. 2017): chi = weight_variance * E[phi'(z)^2].

    Wide layers without normalisation, weights of variance `weight_variance` / fan-in; the gradient of a plain
    net is multiplied by chi in the square per layer, once the pre-activations' second moment has settled at
    q = weight_variance * E[phi(z)^2] + bias_variance, z ~ N(0, q), iterated from `q`.
    """
    for _ in range(10_000):
        before, q = q, weight_variance * of_normal(activation, q).square + bias_variance
        if abs(q - before) <= 1e-12 * max(1.0, q):
            break
    return MeanField(q, weight_variance * of_normal(activation, q).slope)


@functools.cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Points and weights for a standard normal; an activation's kink at 0 is between two points."""
    points, weights = np.polynomial.hermite_e.hermegauss(200)
    return points, weights / weights.sum()


class Expected(NamedTuple):
    """E[phi(z)], E[phi(z)^2] and E[phi'(z)^2] for a normal z of mean 0."""

    mean: float
    square: float
    slope: float


def of_normal(activation: str, q: float) -> Expected:
    """Of the activation phi, for z of variance `q`, by quadrature."""
    function, derivative = ACTIVATIONS[activation]
    points, weights = _quadrature()
    z = math.sqrt(q) * points
    values = function(z)
    return Expected(float(weights @ values), float(weights @ values**2), float(weights @ derivative(z) ** 2))


def batch_norm_growth(activation: str, q: float = 1.0) -> float:
    """Factor of the gradient's norm per layer of a plain net with BatchNorm at initialisation.

    sqrt(q E[phi'^2] / Var[phi]): pi / (pi - 1) in the square for ReLU (Yang et al. 2019). `q` is the variance
    of the activation's input: 1 if BatchNorm is right before it, and that of the weights times the fan-in if
    it is right after, since what the layer takes then has variance 1. Wide layers, large batches.
    """
    found = of_normal(activation, q)
    return math.sqrt(q * found.slope / (found.square - found.mean**2))


def path_lengths(blocks: int) -> np.ndarray:
    """Share of a residual net's 2^n paths through k = 0 ... n branches: binomial (Veit et al. 2016)."""
    return np.array([math.comb(blocks, k) / 2**blocks for k in range(blocks + 1)])


def gaussian_effective_rank(rows: int, columns: int) -> float:
    """|Y|_F^2 / |Y|_2^2 of a large matrix of independent normal numbers: nd / (sqrt n + sqrt d)^2."""
    return rows * columns / (math.sqrt(rows) + math.sqrt(columns)) ** 2
