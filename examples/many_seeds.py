"""Train four seeds at once, as one program, and stop when the test loss rises."""

import dataclasses

import cnnjax

CONFIG = cnnjax.Config(
    model="resnet8",
    model_options={"width": 4},
    data="fashion_mini",
    downsample=2,
    steps=200,
    schedule="constant",
    evaluate_every=50,
)
SEEDS = [dataclasses.replace(CONFIG, seed=seed) for seed in range(4)]
OBJECTS = {"callbacks": [cnnjax.EarlyStopping("test_loss", patience=2)]}

if __name__ == "__main__":
    outs = [f"runs/many_seeds/{config.seed}" for config in SEEDS]
    results = cnnjax.train_many(SEEDS, outs, how="vmap", **OBJECTS)
    print([result.metrics["test_error"] for result in results])
