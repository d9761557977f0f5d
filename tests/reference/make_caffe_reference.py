"""Writes caffe_reference.npz: logits of Caffe's AlexNet, CaffeNet and GoogLeNet, as PyTorch computes them.

Run with torch installed: `python -m tests.reference.make_caffe_reference`. The nets are written out below
after bvlc_alexnet, bvlc_reference_caffenet and bvlc_googlenet of Caffe's model zoo, the first two an eighth
as wide; weights and images are drawn as for torchvision's reference. Images take values in the hundreds, as
Caffe's do, so that response normalisation matters.
The stored file was made with torch 2.13.0 on a CPU, in float64.
"""

from pathlib import Path

import numpy as np

from tests.reference.make_torchvision_reference import CLASSES, draw_images, draw_weights

FILE = Path(__file__).with_name("caffe_reference.npz")
SIDES = {"alexnet": 227, "caffenet": 227, "googlenet": 64}
SCALE = 100
MODULES = {
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""Channels in, and filters of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool projection."""


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the blobs by layer and number, in the order of the layers."""
    if name != "googlenet":
        kernels = {
            "conv1": (12, 3, 11, 11), "conv2": (32, 6, 5, 5), "conv3": (48, 32, 3, 3),
            "conv4": (48, 24, 3, 3), "conv5": (32, 24, 3, 3),
            "fc6": (512, 32 * 36), "fc7": (512, 512), "fc8": (CLASSES, 512),
        }  # fmt: skip
    else:
        kernels = {
            "conv1/7x7_s2": (64, 3, 7, 7), "conv2/3x3_reduce": (64, 64, 1, 1), "conv2/3x3": (192, 64, 3, 3)
        }  # fmt: skip
        for module, (inputs, one, three_in, three, five_in, five, pool) in MODULES.items():
            kernels |= {
                f"inception_{module}/1x1": (one, inputs, 1, 1),
                f"inception_{module}/3x3_reduce": (three_in, inputs, 1, 1),
                f"inception_{module}/3x3": (three, three_in, 3, 3),
                f"inception_{module}/5x5_reduce": (five_in, inputs, 1, 1),
                f"inception_{module}/5x5": (five, five_in, 5, 5),
                f"inception_{module}/pool_proj": (pool, inputs, 1, 1),
            }
        for head, inputs in (("loss1", 512), ("loss2", 528)):
            kernels |= {
                f"{head}/conv": (128, inputs, 1, 1),
                f"{head}/fc": (1024, 128 * 16),
                f"{head}/classifier": (CLASSES, 1024),
            }
        kernels["loss3/classifier"] = (CLASSES, 1024)
    return {
        f"{layer}/{i}": one for layer, shape in kernels.items() for i, one in enumerate((shape, shape[:1]))
    }


def weights_of(name: str) -> dict[str, np.ndarray]:
    """Random blobs."""
    return draw_weights(shapes_of(name))


def images_of(name: str) -> np.ndarray:
    """Two images, red, green, blue."""
    return SCALE * draw_images(SIDES[name])


def forward(name: str):
    """Logits of the network in Caffe's words."""
    import torch
    import torch.nn.functional as F

    weights = {key: torch.from_numpy(value).double() for key, value in weights_of(name).items()}
    blue_green_red = images_of(name)[..., ::-1].transpose(0, 3, 1, 2).copy()
    x = torch.from_numpy(blue_green_red).double()

    def conv(layer, x, **how):
        return F.relu(F.conv2d(x, weights[f"{layer}/0"], weights[f"{layer}/1"], **how))

    def dense(layer, x):
        return F.linear(x, weights[f"{layer}/0"], weights[f"{layer}/1"])

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def norm(x):
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

    if name != "googlenet":

        def respond(x):
            return pool(norm(x)) if name == "alexnet" else norm(pool(x))

        x = respond(conv("conv1", x, stride=4))
        x = respond(conv("conv2", x, padding=2, groups=2))
        x = conv("conv3", x, padding=1)
        x = conv("conv4", x, padding=1, groups=2)
        x = pool(conv("conv5", x, padding=1, groups=2)).flatten(1)
        return dense("fc8", F.relu(dense("fc7", F.relu(dense("fc6", x)))))

    x = norm(pool(conv("conv1/7x7_s2", x, stride=2, padding=3)))
    x = pool(norm(conv("conv2/3x3", conv("conv2/3x3_reduce", x), padding=1)))
    for module in MODULES:
        at = f"inception_{module}"
        three = conv(f"{at}/3x3", conv(f"{at}/3x3_reduce", x), padding=1)
        five = conv(f"{at}/5x5", conv(f"{at}/5x5_reduce", x), padding=2)
        pooled = conv(f"{at}/pool_proj", F.max_pool2d(x, 3, 1, padding=1))
        x = torch.cat([conv(f"{at}/1x1", x), three, five, pooled], 1)
        x = pool(x) if module in ("3b", "4e") else x
    return dense("loss3/classifier", x.mean((2, 3)))


def main() -> None:
    """Compute everything with PyTorch and write the file."""
    np.savez_compressed(FILE, **{name: forward(name).numpy() for name in SIDES})


if __name__ == "__main__":
    main()
