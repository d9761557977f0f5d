"""Gradients of single samples: how alike they are, and how much of their mean is noise.

`statistics` says what is meant by the gradient of one sample where BatchNorm ties it to its batch
(`cnnjax.probes.forward`); the choices differ in values, so it belongs to every number reported.

- "frozen": of the sample's own loss, statistics constant.
- "batch": of the sample's own loss, but the statistics move with the sample, or with the weights. By the
  weights, the mean of these gradients is the gradient that training takes; of the others it is not.
- "full": of the loss of all samples, by one image: with its effect on the others. Only by images.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from cnnjax.errors import UserError
from cnnjax.ops.depth import unstack
from cnnjax.probes.forward import function_of, ties_samples
from cnnjax.probes.layers import one_two_five
from cnnjax.probes.probe import Probe, StepContext
from cnnjax.probes.shattering import effective_rank_of_gram, mean_over_pairs
from cnnjax.probes.subject import Losses, cross_entropy, losses_of, unpack
from cnnjax.probes.theory import gaussian_effective_rank
from cnnjax.probes.trace import Trace, by_path

ALL = "all parameters"


def input_gradients(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    statistics: str = "frozen",
    losses: Losses = cross_entropy,
) -> jax.Array:
    """Gradient of each sample's loss by its image: [sample, height, width, channel].

    Args:
        model: any network (`cnnjax.probes.subject`).
        variables: its parameters and running averages, by block or stacked.
        batch: images [sample, height, width, channel] and labels [sample].
        statistics: "frozen", "batch" or "full", see above.
        losses: what is differentiated.

    Raises:
        UserError: there are no such statistics, or the network has a `bn_group_size`.
    """
    network, variables, (images, labels) = unpack(model, variables, batch)
    if statistics not in ("frozen", "batch", "full"):
        raise UserError(f"statistics={statistics!r}: must be frozen, batch or full, for gradients by images")
    function = function_of(network, variables, images, "frozen" if statistics == "frozen" else "batch")
    values, pull = jax.vjp(lambda x: losses_of(losses, function(variables["params"], x), labels), images)
    if statistics != "batch":
        return pull(jnp.ones_like(values))[0]
    return jax.lax.map(lambda i: pull(_one(i, values))[0][i], jnp.arange(len(values)))


def weight_gradients(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    statistics: str = "frozen",
    losses: Losses = cross_entropy,
    at_once: int = 1,
) -> Any:
    """Gradient of each sample's loss by the parameters: a tree like them by block, arrays [sample, ...].

    It takes the memory of as many networks as there are samples, and with "batch" the time of as many
    backward passes of the whole batch.

    Args:
        model: any network (`cnnjax.probes.subject`).
        variables: its parameters and running averages, by block or stacked.
        batch: images [sample, height, width, channel] and labels [sample].
        statistics: "frozen" or "batch", see above.
        losses: what is differentiated.
        at_once: samples that are differentiated in parallel; one by one takes the least memory.

    Raises:
        UserError: there are no such statistics, or the network has a `bn_group_size`.
    """
    network, variables, (images, labels) = unpack(model, variables, batch)
    if statistics not in ("frozen", "batch"):
        raise UserError(f"statistics={statistics!r}: must be frozen or batch, for gradients by weights")
    variables = unstack(variables)
    params, function = variables["params"], function_of(network, variables, images, statistics)

    def losses_at(params: Any, samples: tuple[Any, Any]) -> jax.Array:
        inputs, labels = samples
        return losses_of(losses, function(params, inputs), labels)

    if not ties_samples(losses_at, params, (images, labels)):

        def of_one(sample: tuple[Any, Any]) -> Any:
            alone = jax.tree.map(lambda leaf: leaf[None], sample)
            return jax.grad(lambda params: losses_at(params, alone)[0])(params)

        return jax.lax.map(of_one, (images, labels), batch_size=at_once)
    values, pull = jax.vjp(lambda params: losses_at(params, (images, labels)), params)
    return jax.lax.map(lambda i: pull(_one(i, values))[0], jnp.arange(len(values)), batch_size=at_once)


@struct.dataclass
class SampleStatistics:
    """Measures of the gradients g of n samples; arrays over layers, or whatever axes the gradients had."""

    cosines: jax.Array
    """[..., sample, sample]: between the gradients of each two samples."""
    mean_cosine: jax.Array
    """Mean over pairs."""
    effective_rank: jax.Array
    """|G|_F^2 / |G|_2^2 of the matrix of all gradients, over that of a large normal matrix of its shape."""
    normalised_rank: jax.Array
    """The same with all gradients scaled to the same norm, so that a few long ones do not decide it.

    In deep feedforward nets with BatchNorm they do: the raw rank falls with depth.
    """
    alignment: jax.Array
    """n |mean g|^2 / mean |g|^2: 1 for independent gradients of mean 0, n for equal ones."""
    noise_scale: jax.Array
    """tr(covariance) / |E g|^2 from unbiased estimates of both (McCandlish et al. 2018, arXiv 1812.06162).

    The batch size, roughly, at which noise and signal are equal. Negative or huge if the samples are too few
    to tell the mean from 0.
    """
    confusion: jax.Array
    """The smallest inner product of two samples' gradients (Sankararaman et al. 2019, arXiv 1904.06963)."""
    layers: tuple[str, ...] = struct.field(pytree_node=False, default=())

    def __repr__(self) -> str:
        return f"SampleStatistics of {self.cosines.shape[-1]} samples: {', '.join(vars(self))}"

    def arrays(self) -> dict[str, Any]:
        """Arrays and names by field, for an npz file."""
        return dict(vars(self))


def sample_statistics(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    statistics: str = "frozen",
    losses: Losses = cross_entropy,
    at_once: int = 1,
) -> SampleStatistics:
    """Measures of the samples' gradients by each layer's kernel, in the order of the calls, and by all.

    The arrays are [layer + 1, ...]: the last entry is that of all parameters together. Arguments and errors
    are those of `weight_gradients`.
    """
    gradients = weight_gradients(model, variables, batch, statistics, losses, at_once)
    network, variables, (images, _) = unpack(model, unstack(variables), batch)
    trace = Trace(function_of(network, variables, images, statistics), variables["params"], images)
    by_weight = by_path(gradients)
    kernels = [by_weight[weight.path][:, *weight.index] for weight in trace.parameters]
    grams = [gram(kernel) for kernel in kernels]
    everything = sum(gram(leaf) for leaf in jax.tree.leaves(gradients))
    n = len(jax.tree.leaves(gradients)[0])
    sizes = [leaf.size // n for leaf in kernels]
    sizes.append(sum(leaf.size for leaf in jax.tree.leaves(gradients)) // n)
    ranks = jnp.array([gaussian_effective_rank(n, size) for size in sizes])
    found = jax.vmap(measure)(jnp.stack([*grams, everything]), ranks)
    return dataclasses.replace(found, layers=(*trace.parameters.values(), ALL))


class SampleProbe(Probe):
    """`sample_statistics` of some samples of a training step's batch, before the update, by the run's loss.

    The arrays over layers, of which the last entry is that of all parameters, go to
    `probes/samples/step_S.npz`.

    Args:
        samples: so many, the first of the batch; the cost grows with their number.
        at: which steps are measured, given how many were taken before.
        statistics: "frozen" or "batch", what becomes of BatchNorm's.
    """

    name: str = "samples"

    def __init__(
        self, samples: int = 32, at: Callable[[int], bool] = one_two_five, statistics: str = "frozen"
    ):
        if samples < 2:
            raise UserError(f"samples={samples}: must be at least 2, to be compared")
        self._samples, self._at, self._statistics = samples, at, statistics

    def due(self, step: int, /) -> bool:
        """Whether `at` says so."""
        return self._at(step)

    def measure(self, context: StepContext) -> SampleStatistics:
        """The statistics of this step's first samples."""
        batch = jax.tree.map(lambda leaf: leaf[: self._samples], (context.inputs, context.labels))
        return sample_statistics(
            context.network, context.variables, batch, self._statistics, losses=context.losses
        )


def gram(gradients: jax.Array) -> jax.Array:
    """Inner products of gradients [sample, ...], [sample, sample]. Those of two sets of parameters add up."""
    flat = gradients.reshape(len(gradients), -1)
    return jnp.matmul(flat, flat.T, precision="highest")


def measure(products: jax.Array, normal_rank: float | jax.Array = 1.0) -> SampleStatistics:
    """The measures, from the inner products [sample, sample] of gradients (`gram`).

    `normal_rank` is what the effective ranks are relative to.
    """
    n, lengths = len(products), jnp.sqrt(jnp.diagonal(products))
    cosines = products / (lengths[:, None] * lengths[None, :])
    power, of_mean = jnp.trace(products) / n, products.sum() / n**2
    noise = (power - of_mean) * n / (n - 1)
    return SampleStatistics(
        cosines=cosines,
        mean_cosine=mean_over_pairs(cosines),
        effective_rank=effective_rank_of_gram(products) / normal_rank,
        normalised_rank=effective_rank_of_gram(cosines) / normal_rank,
        alignment=n * of_mean / power,
        noise_scale=noise / (of_mean - noise / n),
        confusion=jnp.min(jnp.where(jnp.eye(n, dtype=bool), jnp.inf, products)),
    )


def _one(i: jax.Array, like: jax.Array) -> jax.Array:
    return jax.nn.one_hot(i, len(like), dtype=like.dtype)
