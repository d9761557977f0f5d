"""Measure training steps from within: the norm of the gradient, and how far each weight matrix moves."""

import jax
import jax.numpy as jnp
import optax

import cnnjax


class Movement(cnnjax.probes.Probe):
    """A scalar goes to metrics.jsonl, an array to probes/movement/step_S.npz."""

    def due(self, step):
        """Every tenth step."""
        return step % 10 == 0

    def measure(self, context):
        """Called while the step is traced; `context` has the batch, outputs, gradients, updates and more."""
        moved = [jnp.linalg.norm(leaf) for leaf in jax.tree.leaves(context.updates)]
        return {"gradient_norm": optax.tree.norm(context.gradients), "updates": jnp.stack(moved)}


CONFIG = cnnjax.Config(
    model="plain20",
    model_options={"width": 4},
    data="fashion_mini",
    downsample=2,
    steps=100,
    schedule="cosine",
    evaluate_every=100,
)
OBJECTS = {"probes": [Movement(), cnnjax.probes.LayerProbe()]}

if __name__ == "__main__":
    cnnjax.train(CONFIG, "runs/own_probe", **OBJECTS)
    run = cnnjax.open_run("runs/own_probe")
    print(run.metrics["movement/gradient_norm"])  # [measurement, 2]: step and value
