"""Simonyan and Zisserman 2014, VGG."""

from cnnjax.papers.recipe import IMAGENET, Recipe, epochs, on_plateau, stated

PER_EPOCH = epochs(1, IMAGENET, 256)
PAPER = "section 3.1"

RECIPES = {
    "vgg": Recipe(
        "Simonyan and Zisserman 2014, Very deep convolutional networks, arXiv 1409.1556",
        {
            **stated("Table 1, A", model="vgg11", data="imagenet2012"),
            **stated(
                PAPER, optimizer="sgd", batch_size=256, momentum=0.9, weight_decay=5e-4, learning_rate=0.01
            ),
            **on_plateau(
                f"{PAPER}: divided by 10 when the validation accuracy stopped improving, after a time unsaid",
                PER_EPOCH,
            ),
            **stated(f"{PAPER}: 370k iterations, 74 epochs", steps=74 * PER_EPOCH),
            **stated(
                f"{PAPER}: crops and their mirror images, of pictures whose shorter side is 256",
                augment="crop_flip",
            ),
            **stated("section 3.1: random RGB shift, as Krizhevsky et al. 2012", colour=0.1),
            **stated("section 2.1: the mean RGB value subtracted", normalize="raw_mean"),
            **stated("Caffe's convention: weights decay, biases do not", decay="kernels"),
        },
        {
            "vgg11": "29.6 % top-1, 10.4 % top-5, a single scale (Table 3)",
            "vgg13": "28.7 % top-1, 9.9 % top-5, a single scale (Table 3)",
            "vgg16": "27.0 % top-1, 8.8 % top-5, a single scale, trained at 256 (Table 3)",
            "vgg19": "27.3 % top-1, 9.0 % top-5, a single scale, trained at 256 (Table 3)",
        },
        (
            "deeper nets begin at random; in the paper their first and last layers are A's "
            "(--initial RUN takes what has the same name and shape)",
            "the augmentation at several scales is --augment scale_crop_flip, of other sizes: 256 to 480",
        ),
    ),
}
