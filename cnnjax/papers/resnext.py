"""Xie, Girshick, Dollar, Tu and He 2016, ResNeXt."""

from cnnjax.papers.recipe import CIFAR, IMAGENET, TORCH_COLOURS, Recipe, dropped, stated

PAPER = "Xie, Girshick, Dollar, Tu and He 2016, Aggregated residual transformations, arXiv 1611.05431"
CODE = "authors' train.lua and opts.lua"

RECIPES = {
    "resnext_cifar": Recipe(
        PAPER,
        {
            **stated("Table 7", model="resnext29_8x64d", data="cifar10"),
            **stated(f"section 5.3; {CODE}", learning_rate=0.1, momentum=0.9, weight_decay=5e-4),
            **stated(CODE, optimizer="sgd", nesterov=True, decay="all", batch_size=128, normalize="channel"),
            **dropped(
                "section 5.3: divided by 10 at half and three quarters of 300 epochs",
                CIFAR,
                128,
                300,
                at=(150, 225),
            ),
            **stated("section 5.3: as He et al. 2015", augment="crop_flip"),
        },
        {
            "resnext29_8x64d": "3.65 % test error, mean of 10 runs (Table 7)",
            "resnext29_16x64d": "3.58 % test error, mean of 10 runs (Table 7)",
        },
        ("batches of 128, activation after the addition, as in the code; the paper has 256, and before",),
    ),
    "resnext_imagenet": Recipe(
        PAPER,
        {
            **stated("Table 3", model="resnext50_32x4d", data="imagenet2012"),
            **stated("section 4", batch_size=256, learning_rate=0.1, momentum=0.9, weight_decay=1e-4),
            **stated(CODE, optimizer="sgd", nesterov=True, decay="all", normalize="channel"),
            **dropped(
                f"section 4: divided by 10 three times; {CODE}: at 30, 60 and 90 of 100 epochs",
                IMAGENET,
                256,
                100,
                at=(30, 60, 90),
            ),
            **stated("section 4: crops of varied area and aspect", augment="area_crop_flip"),
            **TORCH_COLOURS,
        },
        {
            "resnext50_32x4d": "22.2 % top-1, one crop (Table 3)",
            "resnext101_32x4d": "21.2 % top-1, one crop (Table 3)",
        },
        ("batches of 256 in all, not 32 on each of 8 devices, for BatchNorm too",),
    ),
}
