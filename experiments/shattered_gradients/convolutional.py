"""Part (c): gradients of convolutional nets at different images, and of any network that `build` knows."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from scipy.cluster.vq import kmeans2

from cnnjax.data import load
from cnnjax.data.augment import normalizer
from cnnjax.data.batches import batch_indices
from cnnjax.models import build
from cnnjax.models.shattered import ConvNet
from cnnjax.probes import input_gradients
from cnnjax.probes.samples import gram, measure
from cnnjax.probes.theory import gaussian_effective_rank
from cnnjax.report.shattering import correlations, sample_measures
from cnnjax.training.progress import each

from ..runner import Findings, cached_npz, spread
from .settings import Args

MEASURES = ("mean_cosine", "effective_rank", "normalised_rank", "alignment")
CLUSTERS = 10


def first_output(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The quantity to differentiate: one neuron, [sample]; the labels do not matter."""
    return logits[:, 0]


def statistics(model: nn.Module, batches: list[jax.Array]) -> dict[str, Any]:
    """The measures [net] of initial nets, each on its batch [sample, height, width, channel].

    Of the first net also `cosines` [sample, sample] and `order` [sample], its gradients by cluster.
    """
    samples, *shape = batches[0].shape
    labels = jnp.zeros(samples, jnp.int32)
    normal_rank = gaussian_effective_rank(samples, int(np.prod(shape)))

    @jax.jit
    def gradients_and_measures(variables: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        gradients = input_gradients(model, variables, (images, labels), losses=first_output)
        return gradients.reshape(samples, -1), measure(gram(gradients), normal_rank)

    found = [
        # Weights by many small programs, most of which nets share: one of all of them compiles longer.
        gradients_and_measures(model.lazy_init(jax.random.key(net), images[:1], train=False), images)
        for net, images in enumerate(batches)
    ]
    gradients, first = found[0]
    return {
        **{name: np.array([getattr(measures, name) for _, measures in found]) for name in MEASURES},
        "cosines": first.cosines,
        "order": by_cluster(np.asarray(gradients)),
    }


def by_cluster(gradients: np.ndarray, clusters: int = CLUSTERS, seed: int = 0) -> np.ndarray:
    """Samples in the order of the clusters (k-means) of their gradients [sample, coordinate], scaled to 1."""
    scaled = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cluster that stays empty does no harm
        _, cluster = kmeans2(scaled, clusters, minit="++", rng=seed)
    return np.argsort(cluster, kind="stable")


def convolutional(args: Args, found: Findings) -> None:
    """Correlation between samples, sorted; and its measures against depth."""
    chosen = args.chosen.convolutional
    data = load(chosen.data, args.data_dir)
    normalize = normalizer(data.train_images, "channel")
    images = np.asarray(data.train_images)
    batches = [
        normalize(jnp.asarray(images[batch_indices(args.seed, net, chosen.samples, len(images))]))
        for net in range(chosen.nets)
    ]
    rows = []

    def measured(title: str, name: str, depth: int | None, make: Any) -> dict[str, np.ndarray]:
        arrays = cached_npz(args.out / "convolutional" / f"{name}.npz", lambda: statistics(make(), batches))
        values = {measure: spread(arrays[measure].tolist()) for measure in MEASURES}
        row = {"experiment": "convolutional", "net": title, "depth": depth, "nets": chosen.nets}
        found.results.append({**row, "statistics": "frozen", **values})
        rows.append(
            [title, "" if depth is None else str(depth), *(f"{one['mean']:.3g}" for one in values.values())]
        )
        return arrays

    curves, matrices = {}, {}
    for family in each(chosen.families, "convolutional", "family"):
        by_depth = {
            depth: measured(
                family.title,
                f"{family.name}_{depth}",
                depth,
                lambda depth=depth, family=family: ConvNet(
                    family.net, depth, chosen.width, family.beta or 1.0, data.classes
                ),
            )
            for depth in chosen.depths
        }
        order = by_depth[chosen.depths[0]]["order"]
        matrices[family.title] = {
            f"{depth} layers": by_depth[depth]["cosines"][order][:, order]
            for depth in (chosen.depths[0], chosen.depths[-1])
        }
        curves[family.title] = {
            name: np.stack([arrays[name] for arrays in by_depth.values()], 1) for name in MEASURES
        }
    for name in each(chosen.models, "convolutional", "model"):
        measured(name, name, None, lambda name=name: build(name, num_classes=data.classes))

    found.figures |= {
        "Correlation of the gradients at different images, one net each; images in the order of clusters of "
        "the shallowest net's gradients.": correlations(matrices, args.out / "convolutional_correlation"),
        "Convolutional nets against depth, means over nets, bars two standard errors. Dotted: white noise.": (
            sample_measures(np.array(chosen.depths), curves, args.out / "convolutional_depth")
        ),
    }
    header = ["net", "depth", "mean cosine", "rank", "rank, scaled", "B |mean|^2 / mean |g|^2"]
    caption = (
        f"Gradients of one output by {chosen.samples} images, BatchNorm frozen, means of {chosen.nets} nets: "
        "effective rank relative to normal noise, raw and with all gradients scaled to one norm; the last "
        f"column is 1 for white noise and {chosen.samples} for equal gradients."
    )
    found.tables[caption] = (header, rows)
