"""Fine-tune torchvision's ResNet-18 on a folder of pictures: `python examples/fine_tune.py WEIGHTS FOLDER`.

WEIGHTS is a `.pth` or `.safetensors` file of torchvision's, FOLDER holds train/CLASS/*.jpg and
val/CLASS/*.jpg. The classifier is new, for the folder's classes; everything except the last stage is frozen.
"""

import sys

import cnnjax


def config(weights: str, folder: str) -> cnnjax.Config:
    """The same in one command is `cnnjax train` with these fields as flags."""
    return cnnjax.Config(
        model="resnet18_torchvision",
        data=folder,
        initial=weights,
        freeze=("conv1/*", "bn1/*", "stage1*", "stage2*", "stage3*"),
        augment="area_crop_flip",
        normalize="channel",
        learning_rate=0.01,
        schedule="cosine",
        batch_size=16,
        steps=100,
        evaluate_every=25,
        checkpoint_every=25,
    )


if __name__ == "__main__":
    print(cnnjax.train(config(*sys.argv[1:3]), "runs/fine_tune"))
