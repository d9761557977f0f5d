"""Writes timm_reference.npz, for tests that must not need timm.

Run with timm installed (`pip install -e ".[parity]"`): `python -m tests.reference.make_timm_reference`. The
file holds names and shapes of the weights of some networks, logits of some, what timm writes into a folder's
`config.json`, and, for these configs, a few pixels of a picture that timm prepared. Weights and images are
drawn as for torchvision's reference.
The stored file was made with timm 1.0.31 and torch 2.13.0 on a CPU, the logits in float64: with these weights
rounding alone changes a logit of SE-ResNet-50 by 6e-4 of the largest in float32, there and here.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.reference.make_torchvision_reference import CLASSES, draw_images, draw_weights

FILE = Path(__file__).with_name("timm_reference.npz")
NAMES = (
    "resnet18",
    "resnet50",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "seresnet50",
    "seresnext50_32x4d",
    "vgg11",
    "vgg16_bn",
    "densenet121",
    "inception_v3",
)
LOGITS = {"resnet18": 64, "seresnet50": 64, "vgg11": 224, "inception_v3": 96}
"""Networks whose logits are stored, and the side of their images."""
CONFIGS = ("resnet34.a1_in1k", "resnet50.a3_in1k", "vgg16_bn.tv_in1k", "inception_v3.tf_in1k")
EVERY = 16
"""Of the prepared pictures each so many-th row and column is stored."""


def picture() -> Image.Image:
    """A picture of 500x400 with edges and gradients."""
    rows, columns = np.mgrid[:400, :500]
    colours = rows * columns // 97 % 256, (rows // 20 + columns // 30) % 2 * 255, (rows + 2 * columns) % 256
    return Image.fromarray(np.stack(colours, -1).astype(np.uint8))


def timm_model(name: str, classes: int = CLASSES):
    """timm's network with random weights, and these as a dictionary."""
    import timm
    import torch

    model = timm.create_model(name, num_classes=classes)
    weights = draw_weights({key: tuple(value.shape) for key, value in model.state_dict().items()})
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return model.eval(), weights


def main() -> None:
    """Compute everything with timm and write the file."""
    import timm
    import torch
    from timm.models import save_for_hf

    torch.set_num_threads(1)
    out = {}
    for name in NAMES:
        model, weights = timm_model(name)
        out[f"shapes/{name}"] = np.array(json.dumps({key: value.shape for key, value in weights.items()}))
        if name in LOGITS:
            images = torch.from_numpy(draw_images(LOGITS[name]).transpose(0, 3, 1, 2).copy())
            with torch.no_grad():
                out[f"logits/{name}"] = model.double()(images.double()).numpy()
    for name in CONFIGS:
        model = timm.create_model(name)
        with tempfile.TemporaryDirectory() as folder:
            save_for_hf(model, folder)
            config = (Path(folder) / "config.json").read_text()
        out[f"config/{name}"] = np.array(config)
        how = timm.data.resolve_data_config({}, model=model)
        pixels = timm.data.create_transform(**how)(picture()).numpy().transpose(1, 2, 0)
        out[f"pixels/{name}"] = pixels[::EVERY, ::EVERY]
    np.savez_compressed(FILE, **out)


if __name__ == "__main__":
    main()
