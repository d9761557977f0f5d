"""He, Zhang, Ren and Sun 2015, residual networks; 2016, identity mappings in them."""

from cnnjax.papers.recipe import IMAGENET, Recipe, epochs, on_plateau, stated

PAPER = "He, Zhang, Ren and Sun 2015, Deep residual learning for image recognition, arXiv 1512.03385"
LATER = "He, Zhang, Ren and Sun 2016, Identity mappings in deep residual networks, arXiv 1603.05027"
AVERAGES = (
    "BatchNorm's averages are moving ones; the authors' were taken after training (their README), as "
    "`cnnjax evaluate --reestimate` does"
)
CHOICES = {
    **stated("section 4.2: n = 3", model="resnet20"),
    **stated(
        "section 4.2", data="cifar10", batch_size=128, momentum=0.9, learning_rate=0.1, loss="cross_entropy"
    ),
    **stated(
        "section 4.2: 4 pixels padded on each side, a crop of it or of its mirror image", augment="crop_flip"
    ),
    **stated("section 4.2: the per-pixel mean subtracted", normalize="pixel_mean"),
    **stated(
        "section 4.2: divided by 10 at 32k and 48k, ended at 64k",
        schedule="piecewise",
        steps=64_000,
        boundaries=(32_000, 48_000),
        rate_drop=0.1,
    ),
    **stated("section 4.2: SGD (section 3.4), no Nesterov momentum", optimizer="sgd", nesterov=False),
    **stated("section 4.2", weight_decay=1e-4),
    **stated(
        "facebook/fb.resnet.torch, README: the authors decay the convolutions' weights only",
        decay="convolutions",
    ),
    **stated("section 4.2: the schedule was chosen on 45k / 5k; the table is of all 50k", validation=0),
}
WARM_UP = stated(
    "section 4.2: 0.01 until the training error is below 80 %, about 400 steps, then 0.1",
    warmup="tenth",
    warmup_steps=400,
)

RECIPES = {
    "resnet_cifar": Recipe(
        PAPER,
        CHOICES,
        {
            "resnet20": "8.75 % test error (Table 6)",
            "resnet32": "7.51 % test error (Table 6)",
            "resnet44": "7.17 % test error (Table 6)",
            "resnet56": "6.97 % test error (Table 6)",
        },
        (AVERAGES,),
    ),
    "resnet110_cifar": Recipe(
        PAPER,
        {**CHOICES, **stated("section 4.2: n = 18", model="resnet110"), **WARM_UP},
        {"resnet110": "6.43 % test error, 6.61 +- 0.16 over 5 runs (Table 6)"},
        (AVERAGES, "the first 400 steps have the low rate, whatever the training error"),
    ),
    "resnet_imagenet": Recipe(
        PAPER,
        {
            **stated("Table 1", model="resnet50", data="imagenet2012"),
            **stated(
                "section 3.4",
                optimizer="sgd",
                nesterov=False,
                batch_size=256,
                learning_rate=0.1,
                momentum=0.9,
                weight_decay=1e-4,
            ),
            **on_plateau(
                "section 3.4: divided by 10 when the error plateaus; how long is not said",
                epochs(1, IMAGENET, 256),
            ),
            **stated("section 3.4: up to 60 x 10^4 iterations", steps=600_000),
            **stated(
                "section 3.4: shorter side of 256 to 480, crops and their mirror images",
                augment="scale_crop_flip",
            ),
            **stated("section 3.4: the standard colour augmentation of Krizhevsky et al. 2012", colour=0.1),
            **stated("section 3.4: the per-pixel mean subtracted", normalize="pixel_mean"),
            "decay": CHOICES["decay"],
        },
        {
            "resnet18": "27.88 % top-1, ten crops (Table 2)",
            "resnet34": "25.03 % top-1, ten crops, shortcuts A (Table 2)",
            "resnet50": "22.85 % top-1, 6.71 % top-5, ten crops (Table 3)",
            "resnet101": "21.75 % top-1, 6.05 % top-5, ten crops (Table 3)",
            "resnet152": "21.43 % top-1, 5.71 % top-5, ten crops (Table 3)",
            "plain18": "27.94 % top-1, ten crops (Table 2)",
            "plain34": "28.54 % top-1, ten crops (Table 2)",
        },
        (AVERAGES, "the mean is a colour, not an image"),
    ),
    "preresnet_cifar": Recipe(
        LATER,
        {
            **{name: one._replace(source=f"He et al. 2015, {one.source}") for name, one in CHOICES.items()},
            **stated("Table 2, full pre-activation", model="preresnet110"),
            **stated("appendix: a warm-up as in He et al. 2015, for all", warmup="tenth", warmup_steps=400),
        },
        {
            "preresnet110": "6.37 % test error, median of 5 runs (Table 2)",
            "preresnet164": "5.46 % test error, median of 5 runs (Table 2)",
            "preresnet1001": "4.92 % test error, 4.89 +- 0.14 (Table 4)",
        },
        (AVERAGES,),
    ),
}
