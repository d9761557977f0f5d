"""Huang, Sun, Liu, Sedra and Weinberger 2016, stochastic depth."""

from cnnjax.papers.recipe import CIFAR, Recipe, dropped, stated

TRAINED_ON = CIFAR - 5_000

RECIPES = {
    "stochastic_depth_cifar": Recipe(
        "Huang, Sun, Liu, Sedra and Weinberger 2016, Deep networks with stochastic depth, arXiv 1603.09382",
        {
            **stated("section 4: linear decay to 0.5 at the last block", model="resnet110_stochastic_depth"),
            **stated(
                "section 4",
                data="cifar10",
                batch_size=128,
                learning_rate=0.1,
                momentum=0.9,
                weight_decay=1e-4,
                optimizer="sgd",
                nesterov=True,
            ),
            **stated("authors' main.lua: the optimizer has all parameters", decay="all"),
            **dropped(
                "section 4: divided by 10 at epochs 250 and 375 of 500", TRAINED_ON, 128, 500, at=(250, 375)
            ),
            **stated("section 4: 45,000 to train on, 5,000 to choose the epoch by", validation=5_000),
            **stated("section 4: as He et al. 2015", augment="crop_flip"),
            **stated("authors' code: mean and standard deviation of each channel", normalize="channel"),
        },
        {"resnet110_stochastic_depth": "5.25 % test error, of the best epoch (Table 1)"},
        ("the held-out images are tested; the final error counts, not the best epoch's",),
    ),
}
