"""Train a FractalNet, with and without drop-path, and evaluate its columns alone beside a plain net.

python examples/fractal_columns.py 20 600 3  # layers, steps, seeds
"""

import itertools
import sys

import cnnjax
from cnnjax.models.fractalnet import extract

DEPTH, STEPS, SEEDS = map(int, (sys.argv[1:] + ["10", "20", "1"][len(sys.argv) - 1 :])[:3])
COLUMNS = cnnjax.build(f"fractalnet{DEPTH}").columns
NETS = {"drop-path": {}, "no drop-path": {"drop_path": 0.0}, "plain": {"column": COLUMNS}}


def config(options, seed):
    """The quick recipe of the experiments: Fashion-MNIST at 14x14, an eighth of the filters, no dropout."""
    return cnnjax.Config(
        model=f"fractalnet{DEPTH}", model_options={"width": 8, "dropout": (0.0,) * 5, **options}, seed=seed,
        data="fashion_mini", downsample=2, augment="none", steps=STEPS, learning_rate=0.05,
        schedule="cosine", warmup_steps=STEPS // 8, evaluate_every=STEPS, checkpoint_every=STEPS,
    )  # fmt: skip


if __name__ == "__main__":
    for seed, (title, options) in itertools.product(range(SEEDS), NETS.items()):
        chosen = config(options, seed)
        result = cnnjax.train(chosen, f"runs/fractal_columns/{title.replace(' ', '_')}{DEPTH}_seed{seed}")
        errors = {"training": result.metrics["train_error"], "test": result.metrics["test_error"]}
        # BatchNorm's averages are those of training, where drop-path left some columns out.
        errors["test, averages anew"] = cnnjax.evaluate(chosen, result.variables, reestimate=True)[
            "test_error"
        ]
        for column in range(1, COLUMNS + 1) if "column" not in options else ():
            one = config({"column": column}, seed)
            variables = extract(result.variables, cnnjax.build(one.model, **one.model_options))
            errors[f"column {column}"] = cnnjax.evaluate(one, variables, reestimate=True)["test_error"]
        print(f"{title}, seed {seed}:", *(f"{name} {100 * error:.1f}" for name, error in errors.items()))
