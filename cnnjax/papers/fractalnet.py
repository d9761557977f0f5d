"""Larsson, Maire and Shakhnarovich 2016, FractalNet."""

from cnnjax.papers.recipe import CIFAR, Recipe, dropped, stated

RECIPES = {
    "fractalnet_cifar": Recipe(
        "Larsson, Maire and Shakhnarovich 2016, FractalNet, arXiv 1605.07648",
        {
            **stated("authors' generator: 3 columns, 64 to 512 filters, dropout", model="fractalnet20"),
            **stated(
                "section 4",
                data="cifar10",
                batch_size=100,
                learning_rate=0.02,
                momentum=0.9,
                optimizer="sgd",
            ),
            **dropped(
                "section 4: divided by 10 whenever the number of epochs left, at first 400, has halved",
                CIFAR,
                100,
                400,
                at=(200, 300, 350, 375),
            ),
            **stated("authors' globals.crox: weights, not biases", decay="kernels"),
            **stated("authors' globals.crox: twice the rate for biases", groups={"*/bias": {"rate": 2}}),
            **stated('"CIFAR-10+": shifts and mirror images', augment="crop_flip"),
        },
        {"fractalnet20": "4.60 % test error, with drop-path and dropout (Table 1)"},
        (
            "the weight decay is not stated: Config's is taken",
            "BatchNorm has scale and shift, the latter among the biases; the authors' has neither",
            "the rate's drops after epoch 375, when it is 2e-6, are left out",
        ),
    ),
}
