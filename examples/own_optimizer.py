"""Train with an optimizer that you compose from optax, and test the average of the weights too."""

import optax

import cnnjax

CONFIG = cnnjax.Config(
    model="resnet8",
    model_options={"width": 8},
    data="fashion_mini",
    downsample=2,
    steps=200,
    evaluate_every=100,
    ema=0.99,
)
RATE = optax.warmup_cosine_decay_schedule(0.0, 3e-3, warmup_steps=20, decay_steps=200)
OBJECTS = {"optimizer": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE))}

if __name__ == "__main__":
    result = cnnjax.train(CONFIG, "runs/own_optimizer", **OBJECTS)
    print(result.metrics["test_error"], result.metrics["averaged_test_error"])
