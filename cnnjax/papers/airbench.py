"""Jordan 2024, the speed record of CIFAR-10."""

from cnnjax.papers.recipe import Recipe, stated

CODE = "the paper's airbench94.py"
STEPS = 476
"""9.9 epochs of 48 whole batches, rounded up."""
KILOSTEP = 1 + 1 / (1 - 0.85)
"""What the code divides its rates by: they are per 1,024 images, and decoupled from the momentum."""

RECIPES = {
    "airbench": Recipe(
        "Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv 2404.00498",
        {
            **stated("section 3", model="airbench", data="cifar10"),
            **stated(f"section 3.6; {CODE}: 2 pixels", augment="translate_alternating_flip"),
            **stated(CODE, normalize="channel", batch_size=1024, steps=STEPS, label_smoothing=0.2),
            **stated(CODE, optimizer="sgd", momentum=0.85, nesterov=True),
            **stated(f"{CODE}: 11.5 / 7.67 for the mean over images", learning_rate=11.5 / KILOSTEP),
            **stated(
                f"{CODE}: rises from 0.2 to 1 at 23 % of the steps, falls to 0.07",
                schedule="linear_onecycle",
                schedule_options={
                    "pct_start": 0.23,
                    "pct_final": 0.23 + 0.77 * (1 - 0.2) / (1 - 0.07),  # where it is at 0.2 again
                    "div_factor": 1 / 0.2,
                    "final_div_factor": 0.2 / 0.07,
                },
            ),
            **stated(
                f"{CODE}: 0.0153 / 7.67 in a step at the full rate",
                weight_decay=0.0153 / 11.5,
                decay="all",
            ),
            **stated(
                f"section 3.4; {CODE}: BatchNorm's biases at 64 times the rate, and as much decay",
                groups={"*_bn?/bias": {"rate": 64.0, "decay": 1 / 64}},
            ),
            **stated(f"section 3.2; {CODE}", freeze=("whiten/kernel", "*/scale")),
            **stated("section 3.4: every 5 steps", lookahead=5),
        },
        {"airbench": "5.99 % test error, mean over many runs, with flips and shifts in the test (section 3)"},
        (
            "an epoch is all 50,000 images, and a batch may span two; there it is 48 whole batches",
            "the whitening layer's bias is trained throughout, there for 3 epochs",
            "the average that weights return to has no running averages of BatchNorm's, there it has",
            "a test sees each image once; there it averages over flips and shifts by a pixel",
            "float32, there half precision",
        ),
    ),
}
