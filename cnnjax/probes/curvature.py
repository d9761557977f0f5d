"""Matrices of all parameters without forming them: their largest eigenvalue, trace and spectral density.

They are the Hessian of a loss; its Gauss-Newton part, which for the cross-entropy is the Fisher information;
and the empirical Fisher matrix. Each is given by its product with a vector, which for the Hessian is the
gradient of <gradient, v>. Lanczos re-orthogonalises in full, without which float32 finds the same eigenvalues
again and again (Ghorbani, Krishnan and Xiao 2019, arXiv 1901.10159), so it keeps a vector of all parameters
for each step. All functions are pure, for `jit`.

matfree (0.6.3) has Lanczos, too, but its steps after the last distinct eigenvalue bring false ones: of
diag(1, 2, 3, 3, 3) it finds 3.76, with a weight above 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from cnnjax.probes import decompositions
from cnnjax.probes.forward import function_of
from cnnjax.probes.subject import Losses, cross_entropy, losses_of, unpack

Product = Callable[[jax.Array], jax.Array]
"""v [parameter] to H v [parameter]."""


def batch_loss(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    statistics: str = "batch",
    loss: Losses = cross_entropy,
) -> Callable[[Any], jax.Array]:
    """Mean loss of inputs [sample, ...] and labels [sample, ...] as a function of the parameters.

    `statistics` says what BatchNorm does (`cnnjax.probes.forward`): "batch" gives the curvature of the loss
    that is trained, "running" that of the network in evaluation, which most tools report without a word.

    Raises:
        UserError: there are no such statistics; or they are not "running" and there is a
            `bn_group_size` (for "batch" the function raises it).
    """
    outputs, labels, _ = _outputs(model, variables, batch, statistics)
    return lambda params: losses_of(loss, outputs(params), labels).mean()


def _outputs(
    model: Any, variables: Any, batch: tuple[jax.Array, jax.Array], statistics: str
) -> tuple[Callable[[Any], Any], Any, Any]:
    """The outputs of a batch as a function of the parameters; the labels; the parameters."""
    network, variables, (inputs, labels) = unpack(model, variables, batch)
    function = function_of(network, variables, inputs, statistics)
    return lambda params: function(params, inputs), labels, variables["params"]


def hessian_product(loss: Callable[[Any], jax.Array], params: Any) -> tuple[Product, int]:
    """A function of v [parameter] to H v, H the Hessian of `loss` at `params`; and the number of parameters.

    The parameters are in the order of `jax.flatten_util.ravel_pytree`.
    """
    flat, unravel = ravel_pytree(params)

    def product(v: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jax.grad(lambda y: loss(unravel(y)))(x) @ v)(flat)

    return product, flat.size


def ggn_product(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    statistics: str = "batch",
    loss: Losses = cross_entropy,
) -> tuple[Product, int]:
    """A function of v to G v, G = J^T H J the generalised Gauss-Newton matrix; and the number of parameters.

    J is the outputs' Jacobian by the parameters, H the Hessian of the mean loss by the outputs (Schraudolph
    2002; Martens 2020, arXiv 1412.1193, section 8). It is the Hessian without the network's own curvature,
    positive semi-definite for convex losses. Of the cross-entropy it is the Fisher information matrix.
    Arguments and errors are those of `batch_loss`.
    """
    of_params, labels, params = _outputs(model, variables, batch, statistics)
    flat, unravel = ravel_pytree(params)

    def outputs(flat: jax.Array) -> Any:
        return of_params(unravel(flat))

    def product(v: jax.Array) -> jax.Array:
        at, pushed = jax.jvp(outputs, (flat,), (v,))
        _, curved = jax.jvp(
            jax.grad(lambda outputs: losses_of(loss, outputs, labels).mean()), (at,), (pushed,)
        )
        return jax.vjp(outputs, flat)[1](curved)[0]

    return product, flat.size


def empirical_fisher_product(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    statistics: str = "batch",
    loss: Losses = cross_entropy,
) -> tuple[Product, int]:
    """A function of v to F v, F the mean of g g^T over samples' gradients g; and the number of parameters.

    The labels are those of the batch, not drawn from the model's outputs, so F is not the Fisher information
    (Kunstner et al. 2019, arXiv 1905.12558). Arguments and errors are those of `batch_loss`.
    """
    of_params, labels, params = _outputs(model, variables, batch, statistics)
    flat, unravel = ravel_pytree(params)

    def losses(flat: jax.Array) -> jax.Array:
        return losses_of(loss, of_params(unravel(flat)), labels)

    def product(v: jax.Array) -> jax.Array:
        values, along = jax.jvp(losses, (flat,), (v,))
        return jax.vjp(losses, flat)[1](along / values.size)[0]

    return product, flat.size


def lanczos(product: Product, start: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """The symmetric operator's spectrum as `start` [parameter] sees it: values and weights [step], rising.

    Each weight is the square of an approximate eigenvector's component along `start`. They sum to 1, and
    sum(weight * f(value)) is Gauss quadrature of <start, f(H) start> / <start, start>. The outermost values
    converge first, from inside. After as many steps as there are distinct eigenvalues nothing is left to
    find, and further values have the weight 0.
    """
    steps = min(steps, start.size)

    def step(carry, index):
        basis, v, last, beta = carry
        basis = basis.at[index].set(v)
        w = product(v)
        alpha = w @ v
        w = w - alpha * v - beta * last
        for _ in range(2):  # once leaves rounding errors behind
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        return (basis, w / jnp.where(beta > 0, beta, 1), v, beta), (alpha, beta)

    v = start / jnp.linalg.norm(start)
    carry = (jnp.zeros((steps, start.size), v.dtype), v, jnp.zeros_like(v), jnp.zeros((), v.dtype))
    _, (alphas, betas) = lax.scan(step, carry, jnp.arange(steps))
    tridiagonal = jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
    values, vectors = decompositions.eigenvectors(tridiagonal)
    return values, vectors[0] ** 2


def top_eigenvalue(product: Product, size: int, key: jax.Array, steps: int = 30) -> jax.Array:
    """The largest eigenvalue, from below: `steps` of Lanczos from a random vector."""
    return lanczos(product, jax.random.normal(key, (size,)), steps)[0][-1]


def trace(product: Product, size: int, key: jax.Array, draws: int = 32) -> tuple[jax.Array, jax.Array]:
    """The trace as the mean of <v, H v> over random signs v, and its standard error (Hutchinson)."""
    signs = jax.random.rademacher(key, (draws, size), float)
    values = lax.map(lambda v: v @ product(v), signs)
    return values.mean(), values.std(ddof=1) / draws**0.5


def spectrum(
    product: Product, size: int, key: jax.Array, steps: int = 80, draws: int = 4
) -> tuple[jax.Array, jax.Array]:
    """Values and weights [draw, step] by stochastic Lanczos quadrature: every draw has weights that sum to 1.

    The mean of sum(weight * f(value)) over draws estimates the mean of f over all eigenvalues.
    """
    starts = jax.random.normal(key, (draws, size))
    return lax.map(lambda start: lanczos(product, start, steps), starts)


def density(values: jax.Array, weights: jax.Array, at: jax.Array, width: float) -> jax.Array:
    """The spectral density [point] at these points: `spectrum` smoothed by a normal kernel of std `width`."""
    kernels = jax.scipy.stats.norm.pdf(at[:, None, None], values, width)
    return (weights * kernels).sum(-1).mean(-1)
