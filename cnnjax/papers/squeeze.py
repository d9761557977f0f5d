"""Hu, Shen and Sun 2017, squeeze-and-excitation networks."""

from cnnjax.papers.recipe import IMAGENET, Recipe, dropped, stated

RECIPES = {
    "se_imagenet": Recipe(
        "Hu, Shen and Sun 2017, Squeeze-and-excitation networks, arXiv 1709.01507",
        {
            **stated("Table 2", model="se_resnet50", data="imagenet2012"),
            **stated("section 5.1", optimizer="sgd", momentum=0.9, batch_size=1024, learning_rate=0.6),
            **dropped(
                "section 5.1: divided by 10 every 30 of 100 epochs", IMAGENET, 1024, 100, at=(30, 60, 90)
            ),
            **stated("section 5.1: crops of varied area and aspect", augment="area_crop_flip"),
            **stated("section 5.1: the mean of each channel subtracted", normalize="pixel_mean"),
        },
        {
            "se_resnet50": "23.29 % top-1, 6.62 % top-5, one crop (Table 2)",
            "se_resnet101": "22.38 % top-1, 6.07 % top-5, one crop (Table 2)",
        },
        ("the weight decay and what it applies to are not stated: He et al.'s are taken",),
    ),
}
