"""Krizhevsky, Sutskever and Hinton 2012, and Zeiler and Fergus 2013, who changed its first layers."""

from cnnjax.papers.recipe import IMAGENET, Recipe, epochs, on_plateau, stated

PER_EPOCH = epochs(1, IMAGENET, 128)
CHOICES = {
    **stated("section 4.1", data="imagenet2012", augment="crop_flip"),
    **stated("section 4.1: along the principal components", colour=0.1),
    **stated("section 2: the training set's mean subtracted", normalize="raw_mean"),
    **stated(
        "section 5", optimizer="sgd", batch_size=128, momentum=0.9, weight_decay=5e-4, learning_rate=0.01
    ),
    **on_plateau(
        "section 5: divided by 10 when the validation error stopped improving; how long is not said",
        PER_EPOCH,
    ),
    **stated("section 5: roughly 90 cycles", steps=90 * PER_EPOCH),
    **stated(
        "cuda-convnet's and Caffe's configurations: biases at twice the rate, without decay",
        decay="kernels",
        groups={"*/bias": {"rate": 2, "decay": 0}},
    ),
}
RECIPES = {
    "alexnet": Recipe(
        "Krizhevsky, Sutskever and Hinton 2012, ImageNet classification with deep convolutional networks",
        {**stated("section 3.5", model="alexnet"), **CHOICES},
        {"alexnet": "40.7 % top-1, 18.2 % top-5 of ILSVRC-2012's validation images, ten crops (Table 2)"},
        ("validation errors are of one crop",),
    ),
    "zfnet": Recipe(
        "Zeiler and Fergus 2013, Visualizing and understanding convolutional networks, arXiv 1311.2901",
        {
            **{
                name: one._replace(source=f"Krizhevsky et al. 2012, {one.source}")
                for name, one in CHOICES.items()
                if name != "colour"
            },
            **stated("Figure 3", model="zfnet"),
            **stated("section 3: by hand, when the validation error stops improving", schedule="plateau"),
            **stated("section 3: 70 epochs", steps=70 * PER_EPOCH),
            **stated("section 3.1: filters of a larger RMS are renormalised to it", max_filter_rms=0.1),
        },
        {"zfnet": "38.4 % top-1, 16.5 % top-5 of ILSVRC-2012's validation images (Table 2)"},
        ("crops are random; the paper has ten places",),
    ),
}
