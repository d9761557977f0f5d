"""Zagoruyko and Komodakis 2016, wide residual networks."""

from cnnjax.papers.recipe import CIFAR, Recipe, dropped, epochs, stated

CODE = "authors' scripts/train_cifar.sh and train.lua"

CHOICES = {
    **stated("Table 5", model="wrn28_10", data="cifar10"),
    **stated(
        "section 3",
        optimizer="sgd",
        nesterov=True,
        momentum=0.9,
        batch_size=128,
        weight_decay=5e-4,
        learning_rate=0.1,
    ),
    **stated(f"{CODE}: the optimizer has all parameters", decay="all"),
    **stated(f"section 3; {CODE}: 4 pixels of reflection", augment="reflect_crop_flip"),
    **stated("section 3: mean and standard deviation of each channel", normalize="channel"),
    **stated("section 3: all training images", validation=0),
}

RECIPES = {
    "wrn_cifar": Recipe(
        "Zagoruyko and Komodakis 2016, Wide residual networks, arXiv 1605.07146",
        {
            **CHOICES,
            **dropped(
                f"section 3: times 0.2 at epochs 60, 120 and 160 of 200; {CODE}: whole batches only",
                CIFAR,
                128,
                200,
                at=(60, 120, 160),
                rate_drop=0.2,
            ),
        },
        {
            "wrn28_10": "4.00 % test error, median of 5 runs (Table 5)",
            "wrn16_8": "4.27 % test error, median of 5 runs (Table 5)",
        },
        ("the code drops the rate when epoch 60 begins, after 59; the paper says at 60, as here",),
    ),
    "wrn_cifar_modern": Recipe(
        "Loshchilov and Hutter 2016, SGDR, arXiv 1608.03983: the cosine without restarts",
        {
            **{
                name: one._replace(source=f"Zagoruyko and Komodakis 2016, {one.source}")
                for name, one in CHOICES.items()
            },
            **stated(
                "section 4.1: from .05 to 0 in 200 epochs (T_0 = 200)",
                learning_rate=0.05,
                schedule="cosine",
                steps=epochs(200, CIFAR, 128),
            ),
        },
        {},
        ("the rate changes at each step, also where an epoch's last, smaller batch is left out",),
    ),
}
