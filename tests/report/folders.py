"""Folders of runs that nobody trained: written as `cnnjax.training` writes them, but at once."""

import json
import re

import numpy as np

from cnnjax.config import Config
from cnnjax.npz import write_arrays

VERSIONS = {"python": "3.11.7", "cnnjax": "0.1.0", "jax": "0.10.2"}


def write_run(folder, model="resnet8", seed=0, steps=40, every=10, done=None, **fields):
    """A run's folder at step `done`, by default finished; deeper networks learn more slowly."""
    config = Config(model=model, data="fashion_mini", seed=seed, steps=steps, evaluate_every=every, **fields)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "versions": VERSIONS,
        "device": "1 x cpu (cpu), 2 cores",
        "command": f"cnnjax train --model {model}",
    }
    held = {"config": config.to_json(), "data": "0" * 64, "environment": environment}
    (folder / "config.json").write_text(json.dumps(held))
    (folder / "metrics.jsonl").write_text("")
    append_steps(folder, 1, steps if done is None else done)
    if done is None:
        finish(folder)
    return folder


def append_steps(folder, first, last):
    """Lines of the steps from `first` to `last`; those of a step are always the same."""
    held = json.loads((folder / "config.json").read_text())["config"]
    depth = int(re.sub(r"\D", "", held["model"]) or 8)
    slow = 1 + depth / 8 * (2 if held["model"].startswith("plain") else 0.2)
    with open(folder / "metrics.jsonl", "a") as file:
        for step in range(first, last + 1):
            draw = np.random.default_rng([held["seed"], step, depth])
            loss = 2.3 / (1 + 12 * step / held["steps"] / slow) * float(np.exp(0.1 * draw.normal()))
            line = {
                "step": step,
                "learning_rate": 0.1,
                "train_error": min(0.9, loss / 3),
                "train_loss": loss,
                "time": float(step),
            }
            file.write(json.dumps(line) + "\n")
            if step % held["evaluate_every"] == 0:
                line = {
                    "step": step,
                    "test_error": min(0.9, loss / 2.7),
                    "test_loss": 1.1 * loss,
                    "time": step + 0.5,
                }
                file.write(json.dumps(line) + "\n")


def finish(folder):
    """Write result.json from the last lines."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for line in lines for name, value in line.items() if name not in ("step", "time")}
    (folder / "result.json").write_text(json.dumps({"step": lines[-1]["step"], "metrics": last}))


def write_layers(folder, depth=8, steps=(0, 1, 2, 5, 10), growth=1.2, blocks=3):
    """What `LayerProbe` writes, of gradients that grow by a factor `growth` a layer towards the input."""
    for step in steps:
        growing = growth ** (np.arange(depth)[::-1] / (1 + step))
        arrays = {
            "weight_gradient_norm": growing.astype("f4"),
            "response_std": np.linspace(1, 2, depth).astype("f4"),
            "scale": np.where(np.arange(depth) % 2, np.nan, 1.0).astype("f4"),
            "branch_rms": np.linspace(0.1, 0.3, blocks).astype("f4"),
            "layers": [f"stage{1 + 3 * i // depth}_conv{i}" for i in range(depth)],
            "blocks": [f"block{i}" for i in range(blocks)],
            "activations": ["relu"] * depth,
        }
        write_arrays(folder / "probes" / f"step_{step}.npz", arrays)


def write_samples(folder, depth=4, samples=12, steps=(0, 1, 2)):
    """What `SampleProbe` writes, of gradients that become alike."""
    for step in steps:
        draw = np.random.default_rng(step)
        gradients = draw.normal(size=(depth + 1, samples, 30)) + step
        gradients /= np.linalg.norm(gradients, axis=-1, keepdims=True)
        cosines = np.einsum("lif,ljf->lij", gradients, gradients)
        mean = (cosines.sum((1, 2)) - samples) / samples / (samples - 1)
        names = [*(f"conv{i}" for i in range(depth)), "all parameters"]
        arrays = {"cosines": cosines.astype("f4"), "mean_cosine": mean.astype("f4"), "layers": names}
        write_arrays(folder / "probes" / "samples" / f"step_{step}.npz", arrays)
