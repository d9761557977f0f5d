"""Huang, Liu, van der Maaten and Weinberger 2016, DenseNet."""

from cnnjax.papers.recipe import CIFAR, IMAGENET, TORCH_COLOURS, Recipe, dropped, stated

PAPER = "Huang, Liu, van der Maaten and Weinberger 2016, Densely connected networks, arXiv 1608.06993"
SHARED = {
    **stated("section 4.2", optimizer="sgd", learning_rate=0.1, weight_decay=1e-4),
    **stated("section 4.2: Nesterov momentum without dampening", momentum=0.9, nesterov=True),
    **stated("authors' code: the optimizer has all parameters", decay="all"),
}

RECIPES = {
    "densenet_cifar": Recipe(
        PAPER,
        {
            **SHARED,
            **stated("Table 2", model="densenet40_12", data="cifar10"),
            **stated("section 4.1: data sets with a plus", augment="crop_flip"),
            **stated("section 4.1: mean and standard deviation of each channel", normalize="channel"),
            **stated("section 4.1: 5,000 to choose by; the table is of all 50,000", validation=0),
            **stated("section 4.2", batch_size=64),
            **dropped(
                "section 4.2: divided by 10 at half and three quarters of 300 epochs",
                CIFAR,
                64,
                300,
                at=(150, 225),
            ),
        },
        {
            "densenet40_12": "5.24 % test error (Table 2, C10+)",
            "densenet100_12": "4.10 % test error (Table 2, C10+)",
            "densenet_bc100_12": "4.51 % test error (Table 2, C10+)",
            "densenet_bc190_40": "3.46 % test error (Table 2, C10+)",
        },
    ),
    "densenet_imagenet": Recipe(
        PAPER,
        {
            **SHARED,
            **stated("Table 3", model="densenet121", data="imagenet2012"),
            **stated(
                "section 4.1: as He et al. 2016, whose code has crops of varied area",
                augment="area_crop_flip",
            ),
            **TORCH_COLOURS,
            **stated("section 4.2", batch_size=256),
            **stated("authors' code", normalize="channel"),
            **dropped("section 4.2: divided by 10 at epochs 30 and 60 of 90", IMAGENET, 256, 90, at=(30, 60)),
        },
        {
            "densenet121": "25.02 % top-1, 7.71 % top-5, one crop (Table 3)",
            "densenet169": "23.80 % top-1, 6.85 % top-5, one crop (Table 3)",
            "densenet201": "22.58 % top-1, 6.34 % top-5, one crop (Table 3)",
        },
    ),
}
