"""Lin, Chen and Yan 2013, Network in Network: as the first author's configurations train it."""

from cnnjax.papers.recipe import CIFAR, Recipe, dropped, stated

PAPER = "Lin, Chen and Yan 2013, Network in network, arXiv 1312.4400"
PARAMS = "first author's cuda-convnet, NIN/cifar-10_params"
README = "first author's cuda-convnet, README.md"
ZOO = "first author's net in Caffe's model zoo, solver and train_val.prototxt"
BIASES = {"rate": 2, "decay": 0}

RECIPES = {
    "nin_cifar": Recipe(
        PAPER,
        {
            **stated("NIN/cifar-10_def", model="nin_cifar10", data="cifar10"),
            **stated(
                f"{PARAMS}: epsW of 1 and wc of 1e-5, with a loss weighted by .1",
                optimizer="sgd",
                learning_rate=0.1,
                momentum=0.9,
                weight_decay=1e-4,
            ),
            **stated(
                f"{PARAMS}: biases at twice the rate, without decay; a tenth of both rates in the last layer",
                decay="kernels",
                groups={
                    "cccp6/bias": {"rate": 0.2, "decay": 0},
                    "cccp6/kernel": {"rate": 0.1},
                    "*/bias": BIASES,
                },
            ),
            **dropped(
                f"{README}: divided by 10 by hand after 200 and 230 of 260 epochs; cuda-convnet's batches",
                CIFAR,
                128,
                260,
                at=(200, 230),
            ),
            **stated("cuda-convnet's default", batch_size=128),
            **stated("Table 1: 10.41 % is without augmentation", augment="none"),
            **stated(
                "section 4.1: global contrast normalisation and ZCA, as maxout networks have it",
                normalize="zca",
            ),
        },
        {"nin_cifar10": "10.41 % test error, without augmentation (Table 1)"},
        ("the last, smaller batch of an epoch is left out",),
    ),
    "nin_imagenet": Recipe(
        PAPER,
        {
            **stated(ZOO, model="nin_imagenet", data="imagenet2012"),
            **stated(
                ZOO, optimizer="sgd", batch_size=64, learning_rate=0.01, momentum=0.9, weight_decay=5e-4
            ),
            **stated(
                f"{ZOO}: divided by 10 every 200k of 450k steps",
                schedule="piecewise",
                steps=450_000,
                boundaries=(200_000, 400_000),
                rate_drop=0.1,
            ),
            **stated(
                f"{ZOO}: biases at twice the rate, without decay", decay="kernels", groups={"*/bias": BIASES}
            ),
            **stated(f"{ZOO}: crops and their mirror images", augment="crop_flip"),
            **stated(f"{ZOO}: the mean image subtracted", normalize="raw_mean"),
        },
        {"nin_imagenet": "40.64 % top-1, one crop (the model zoo's page; the paper has no such net)"},
        (
            "dropout after the third perceptron only, as in the zoo's net",
            "the mean is a colour, not an image",
        ),
    ),
}
