"""Writes torchvision_reference.npz and two small .pth files, for tests that must not need PyTorch.

Run with torchvision installed (`pip install -e ".[parity]"`):
`python -m tests.reference.make_torchvision_reference`. The file holds, for each network, the names and shapes
of its weights and, for some, the logits. Weights and images are drawn by the functions below, from numpy's
frozen legacy generator, so that only results are stored.
The stored files were made with torch 2.14.1 and torchvision 0.29.1 on a CPU, in float32.
"""

import json
import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("torchvision_reference.npz")
CLASSES = 10
NAMES = (
    "alexnet",
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    "googlenet",
    "inception_v3",
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    "wide_resnet50_2",
    "wide_resnet101_2",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
)
LOGITS = {
    "alexnet": 224,
    "vgg11_bn": 224,
    "googlenet": 64,
    "inception_v3": 96,
    "resnet18": 64,
    "densenet121": 64,
}
"""Networks whose logits are stored, and the side of their images."""


def draw_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A state_dict of these shapes, random but for its names; kernels keep the variance of their input."""
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = np.zeros(shape, np.int64)
            continue
        # Large kernels repeat what is drawn; the period is a prime, so no two rows are alike.
        noise = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, 100_003).astype(np.float32)
        values = np.resize(noise, shape)
        if len(shape) > 1:
            values *= np.float32(np.sqrt(6 / np.prod(shape[1:])))
        elif name.endswith(("running_var", "weight")):
            values = 1 + values / 2
        else:
            values /= 10
        weights[name] = values
    return weights


def draw_images(side: int) -> np.ndarray:
    """Two images [2, side, side, 3]."""
    return np.random.RandomState(side).randn(2, side, side, 3).astype(np.float32)


def torch_model(name: str):
    """Torchvision's network with random weights, and these as a dictionary."""
    import torch
    import torchvision

    slow = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **slow)
    weights = draw_weights({key: tuple(value.shape) for key, value in model.state_dict().items()})
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return model, weights


def main() -> None:
    """Compute everything with PyTorch and write the files."""
    import torch

    torch.set_num_threads(1)
    out = {}
    for name in NAMES:
        model, weights = torch_model(name)
        out[f"shapes/{name}"] = np.array(json.dumps({key: value.shape for key, value in weights.items()}))
        if name in LOGITS:
            images = torch.from_numpy(draw_images(LOGITS[name]).transpose(0, 3, 1, 2).copy())
            with torch.no_grad():
                out[f"logits/{name}"] = model.eval()(images).numpy()
    np.savez_compressed(FILE, **out)

    halves = torch.arange(6, dtype=torch.float16).reshape(2, 3)
    tensors = {"first": halves.T, "second": torch.nn.Parameter(halves[1:].float()), "third": halves[0, 1:]}
    for form in ("archive", "stream"):
        torch.save(tensors, FILE.with_name(f"{form}.pth"), _use_new_zipfile_serialization=form == "archive")


if __name__ == "__main__":
    main()
