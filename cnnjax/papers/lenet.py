"""LeNet-5 as today's tutorials train it."""

from cnnjax.papers.recipe import Recipe, epochs, stated

RECIPES = {
    "lenet5_modern": Recipe(
        "LeCun, Bottou, Bengio and Haffner 1998, LeNet-5; with ReLU, dropout and Adam, as tutorials have it",
        {
            **stated(
                "the tutorials: padded to 32x32, dropout of half",
                model="lenet5_modern",
                model_options={"padding": 2, "dropout": 0.5},
            ),
            **stated(
                "the tutorials",
                data="mnist",
                augment="none",
                normalize="none",
                optimizer="adam",
                learning_rate=1e-3,
                schedule="constant",
                batch_size=64,
            ),
            **stated(
                "the tutorials: l2(1e-3) on kernels, whose gradient has twice that",
                weight_decay=2e-3,
                decay="kernels",
            ),
            **stated(
                "LeCun et al. 1998, section III.B: 20 passes; the tutorials differ",
                steps=epochs(20, 60_000, 64),
            ),
        },
        {},
    ),
}
