"""Srivastava, Greff and Schmidhuber 2015, highway networks: as their released code trains them."""

from cnnjax.papers.recipe import Recipe, stated

SOLVER = "authors' code, examples/highways/cifar10-19layers, solver"
NETWORK = "authors' code, examples/highways/cifar10-19layers, network"

RECIPES = {
    "highway_cifar": Recipe(
        "Srivastava, Greff and Schmidhuber 2015, Training very deep networks, arXiv 1507.06228",
        {
            **stated("the paper, 19 layers", model="highway_cifar19", data="cifar10"),
            **stated(
                SOLVER, optimizer="sgd", nesterov=True, momentum=0.9, learning_rate=0.025, weight_decay=1e-3
            ),
            **stated(
                f"{SOLVER}: divided by 10 at 100k, 150k and 175k of 200k steps",
                schedule="piecewise",
                steps=200_000,
                boundaries=(100_000, 150_000, 175_000),
                rate_drop=0.1,
            ),
            **stated(NETWORK, batch_size=100, decay="kernels"),
            **stated(
                f"{NETWORK}: biases at twice the rate, without decay; the classifier's is tenfold",
                groups={"*/bias": {"rate": 2, "decay": 0}, "classifier/kernel": {"decay": 10}},
            ),
            **stated(f"{NETWORK}: crops of padded images, and their mirror images", augment="crop_flip"),
            **stated(f"{NETWORK}: the mean image subtracted", normalize="pixel_mean"),
        },
        {"highway_cifar19": "7.54 % test error, 7.72 +- 0.16 over 5 runs"},
        ("no global contrast normalisation", "images are padded by 4 pixels; theirs by 8"),
    ),
}
