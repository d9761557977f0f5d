"""Zhang, Dauphin and Ma 2019, Fixup."""

from cnnjax.papers.recipe import CIFAR, Recipe, dropped, stated

CODE = "authors' cifar/cifar_train.py"

RECIPES = {
    "fixup_cifar": Recipe(
        "Zhang, Dauphin and Ma 2019, Fixup initialization, arXiv 1901.09321",
        {
            **stated(
                CODE,
                model="fixup_resnet110",
                data="cifar10",
                batch_size=128,
                learning_rate=0.1,
                weight_decay=1e-4,
                momentum=0.9,
            ),
            **stated(
                CODE, optimizer="sgd", nesterov=False, decay="all", augment="crop_flip", normalize="channel"
            ),
            **dropped(f"{CODE}: divided by 10 at epochs 100 and 150 of 200", CIFAR, 128, 200, at=(100, 150)),
            **stated(f"{CODE}: the default", mixup=1.0),
            **stated(
                f"{CODE}: a tenth of the rate for biases and scales",
                groups={"*bias*": {"rate": 0.1}, "*scale*": {"rate": 0.1}},
            ),
        },
        {},
        ("the last, smaller batch of an epoch is left out",),
    ),
}
