"""The gradients of the first steps, and the verdict before them."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.diagnosis.examine import Instruments
from cnnjax.diagnosis.features import features
from cnnjax.diagnosis.verdict import judge
from cnnjax.files import read_jsonl
from cnnjax.probes import Probe, StepContext
from cnnjax.probes.layers import over_weights
from cnnjax.probes.taps import norm_of
from cnnjax.probes.trace import NOTHING
from cnnjax.recipes import Objects, resolve

from ..runner import cached_npz, fixed_choice
from .settings import FIRST_STEPS, Arm


class GradientProbe(Probe):
    """Norms of the gradients by the layers' weights, of every step, as scalars in metrics.jsonl.

    The layers are in the order of their calls, and the last one is the classifier. One program serves all
    steps: what `LayerProbe` measures besides would need another one.
    """

    name: str = "gradients"
    watch = NOTHING

    def measure(self, context: StepContext) -> dict[str, jax.Array]:
        """Norms of the first layer's gradient and weight and of the last convolution's; see `relative`."""
        assert context.layers is not None
        weights, params = context.layers.weights, context.variables["params"]
        gradient, weight = (over_weights(norm_of, weights, tree) for tree in (context.gradients, params))
        return {
            "first_gradient": gradient[0],
            "last_gradient": gradient[-2:][0],
            "first_weight": weight[0],
            "relative": relative(gradient, weight),
        }


def relative(gradient: jax.Array, weight: jax.Array) -> jax.Array:
    """Median of gradient over weight, from norms [layer], over the layers whose weight is not 0."""
    return jnp.nanmedian(jnp.where(weight > 0, gradient / jnp.where(weight > 0, weight, 1), jnp.nan))


def first_steps(run: Path) -> list[dict[str, Any]]:
    """What the probe measured after each of `FIRST_STEPS`; None stands for what is not finite.

    `first_to_last` is the ratio of the two gradients, None where one of them is 0.
    """
    found = []
    for line in read_jsonl(run / "metrics.jsonl"):
        if line.get("gradients/relative", None) is None or line["step"] - 1 not in FIRST_STEPS:
            continue
        one = {name: line[f"gradients/{name}"] for name in MEASURED}
        first, last = one["first_gradient"], one["last_gradient"]
        ratio = first / last if first and last else None
        values = {name: value and float(f"{value:.4g}") for name, value in one.items()}
        found.append({"step": line["step"] - 1, "first_to_last": ratio and float(f"{ratio:.4g}"), **values})
    return found


MEASURED = ("first_gradient", "last_gradient", "first_weight", "relative")


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """Those on an arm, one for each seed, kept in a file in `folder`."""

    arm: Arm
    folder: Path
    seeds: int

    @property
    def file(self) -> Path:
        """Of the verdicts on so many seeds: they share what was compiled."""
        return self.folder / f"{self.arm.patient}_{self.arm.remedy.name}_{self.seeds}_seeds.npz"

    def arrays(self, data: Dataset) -> dict[str, np.ndarray]:
        """`probability` [seed] that the network trains, and `word` [seed], as `cnnjax.diagnose` has them."""
        return cached_npz(self.file, lambda: self._judge(data))

    def _judge(self, data: Dataset) -> dict[str, Any]:
        config = self.arm.config
        task = resolve(config, Objects(data=data))
        arrays = task.data
        assert isinstance(arrays, Dataset)
        some = fixed_choice(config.batch_size, len(arrays.train_images))
        images = task.normalize(jnp.asarray(np.asarray(arrays.train_images)[some]))
        batch = images, jnp.asarray(np.asarray(arrays.train_labels)[some])
        optimizer_of = functools.partial(_optimizer, task.optimizer, config.weight_decay)
        instruments = Instruments(task.network, task.loss, optimizer_of)
        found = []
        for seed in range(self.seeds):
            variables = task.init(jax.random.key(seed), images)
            state = optimizer_of(config.learning_rate).init(variables["params"])
            examined = instruments.examine(
                variables, state, batch, config.learning_rate, skips=False, samples=False
            )
            found.append(judge(features(examined)))
        return {
            "probability": np.array([verdict.probability for verdict in found]),
            "word": np.array([verdict.word for verdict in found]),
        }


def _optimizer(make: Any, decay: float, rate: Any) -> Any:
    return make(rate, decay)
