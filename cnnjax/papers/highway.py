"""Srivastava, Greff and Schmidhuber 2015, highway networks: as their released code trains them."""

from cnnjax.papers.recipe import Recipe, stated

PAPER = "Srivastava, Greff and Schmidhuber 2015, Training very deep networks, arXiv 1507.06228"
CIFAR_NET = "authors' code, examples/highways/cifar10-19layers, network"
CIFAR_SOLVER = "authors' code, examples/highways/cifar10-19layers, solver"
MNIST_NET = "authors' code, examples/highways/mnist-10layers, network"
MNIST_SOLVER = "authors' code, examples/highways/mnist-10layers, solver"
GROUPS = {"*/bias": {"rate": 2, "decay": 0}, "classifier/kernel": {"decay": 10}}
GROUPED = "biases at twice the rate, without decay; the classifier's is tenfold"

RECIPES = {
    "highway_mnist": Recipe(
        PAPER,
        {
            **stated("the paper, 10 layers", model="highway_mnist10", data="mnist"),
            **stated(
                MNIST_SOLVER,
                optimizer="sgd",
                nesterov=True,
                momentum=0.9,
                learning_rate=0.01,
                weight_decay=1e-3,
            ),
            **stated(
                f"{MNIST_SOLVER}: divided by 10 at 60k and 120k of 180k steps",
                schedule="piecewise",
                steps=180_000,
                boundaries=(60_000, 120_000),
                rate_drop=0.1,
            ),
            **stated(MNIST_NET, batch_size=100, decay="kernels", augment="none"),
            **stated(f"{MNIST_NET}: {GROUPED}", groups=GROUPS),
            **stated(f"{MNIST_NET}: from 0 to 1", normalize="none"),
        },
        {"highway_mnist10": "0.45 % test error, 0.46 +- 0.02 over 5 runs (Table 1)"},
        ("pixels are divided by 255; theirs by 256",),
    ),
    "highway_cifar": Recipe(
        PAPER,
        {
            **stated("the paper, 19 layers", model="highway_cifar19", data="cifar10"),
            **stated(
                CIFAR_SOLVER,
                optimizer="sgd",
                nesterov=True,
                momentum=0.9,
                learning_rate=0.025,
                weight_decay=1e-3,
            ),
            **stated(
                f"{CIFAR_SOLVER}: divided by 10 at 100k, 150k and 175k of 200k steps",
                schedule="piecewise",
                steps=200_000,
                boundaries=(100_000, 150_000, 175_000),
                rate_drop=0.1,
            ),
            **stated(CIFAR_NET, batch_size=100, decay="kernels"),
            **stated(f"{CIFAR_NET}: {GROUPED}", groups=GROUPS),
            **stated(f"{CIFAR_NET}: crops of padded images, and their mirror images", augment="crop_flip"),
            **stated(f"{CIFAR_NET}: the mean image subtracted", normalize="pixel_mean"),
        },
        {"highway_cifar19": "7.54 % test error, 7.72 +- 0.16 over 5 runs"},
        (
            "no global contrast normalisation; the scale of their pixels after it is unknown, ours is 1/255",
            "images are padded by 4 pixels; theirs by 8",
        ),
    ),
}
