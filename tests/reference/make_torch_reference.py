"""Writes torch_reference.npz: what PyTorch computes, for tests that must not need PyTorch.

Run with PyTorch installed (`pip install -e ".[parity]"`): `python tests/reference/make_torch_reference.py`.
Weights and images are drawn by the functions below, from numpy's frozen legacy generator, so that only
results are stored.
The stored file was made with torch 2.13.0 on a CPU, in float32.
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("torch_reference.npz")
LEARNING_RATES = (0.1, 0.1, 0.01)  # the drop tells v = m v + g; w -= lr v from the other forms of momentum
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
BATCH, SIDE = 8, 16


def sgd_inputs() -> tuple[np.ndarray, list[np.ndarray]]:
    """A kernel [3, 3, 2, 4] and its gradient at each step."""
    draw = np.random.RandomState(0)
    return draw.randn(3, 3, 2, 4).astype(np.float32), [
        draw.randn(3, 3, 2, 4).astype(np.float32) for _ in range(3)
    ]


def batch_norm_inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two batches [step, batch, height, width, channel], a scale, a bias and the gradient of the output."""
    draw = np.random.RandomState(1)
    x = 3 * draw.randn(2, 4, 3, 3, 5) + 2
    return tuple(a.astype(np.float32) for a in (x, draw.randn(5), draw.randn(5), draw.randn(4, 3, 3, 5)))


def resnet20_inputs(
    shapes: dict[str, tuple[int, ...]],
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Parameters by path, two batches of images [step, batch, height, width, channel] and their labels.

    Args:
        shapes: path, such as `stage1_block01/conv1/kernel`, to shape; kernels are [k, k, c_in, c_out].
    """
    draw = np.random.RandomState(2)
    params = {}
    for path in sorted(shapes):
        noise = draw.randn(*shapes[path])
        if path.endswith("kernel"):
            params[path] = noise * np.sqrt(2 / np.prod(shapes[path][:-1]))
        else:
            params[path] = 0.1 * noise + path.endswith("scale")
    images = draw.randn(2, BATCH, SIDE, SIDE, 3)
    labels = draw.randint(10, size=(2, BATCH))
    return (
        {path: value.astype(np.float32) for path, value in params.items()},
        images.astype(np.float32),
        labels,
    )


def main() -> None:
    """Compute everything with PyTorch and write the file."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(1)
    out: dict[str, np.ndarray] = {}

    weight, gradients = sgd_inputs()
    parameter = nn.Parameter(torch.from_numpy(weight))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for step, (rate, gradient) in enumerate(zip(LEARNING_RATES, gradients, strict=True)):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        out[f"sgd/{step}"] = parameter.detach().numpy().copy()

    batches, scale, bias, upstream = batch_norm_inputs()
    norm = nn.BatchNorm2d(5)
    norm.weight.data, norm.bias.data = torch.from_numpy(scale), torch.from_numpy(bias)
    for x in batches:
        x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
        y = norm(x)
    y.backward(torch.from_numpy(upstream.transpose(0, 3, 1, 2).copy()))
    out["batch_norm/output"] = y.detach().numpy().transpose(0, 2, 3, 1)
    out["batch_norm/input_gradient"] = x.grad.numpy().transpose(0, 2, 3, 1)
    out["batch_norm/scale_gradient"] = norm.weight.grad.numpy()
    out["batch_norm/mean"], out["batch_norm/var"] = norm.running_mean.numpy(), norm.running_var.numpy()

    class Block(nn.Module):
        def __init__(self, inputs: int, filters: int):
            super().__init__()
            self.inputs, self.filters = inputs, filters
            self.conv1 = nn.Conv2d(inputs, filters, 3, filters // inputs, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)

        def forward(self, x):
            y = F.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            if self.inputs != self.filters:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.filters - self.inputs))
            return F.relu(x + y)

    net = nn.Module()
    net.conv1, net.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
    blocks = []
    for stage, filters in enumerate((16, 32, 64), start=1):
        for index in range(1, 4):
            inputs = filters // 2 if index == 1 and stage > 1 else filters
            blocks.append(Block(inputs, filters))
            setattr(net, f"stage{stage}_block{index:02d}", blocks[-1])
    net.classifier = nn.Linear(64, 10)

    def path(name: str) -> str:
        *modules, leaf = name.split(".")
        norm = modules[-1].startswith("bn")
        return "/".join([*modules, {"weight": "scale" if norm else "kernel"}.get(leaf, leaf)])

    def ours(value: torch.Tensor) -> np.ndarray:
        array = value.detach().numpy()
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T

    def theirs(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T).copy())

    named = dict(net.named_parameters())
    params, images, labels = resnet20_inputs({path(name): ours(value).shape for name, value in named.items()})
    for name, value in named.items():
        value.data = theirs(params[path(name)])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    losses = []
    for x, y in zip(images, labels, strict=True):
        x = F.relu(net.bn1(net.conv1(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))))
        for block in blocks:
            x = block(x)
        loss = F.cross_entropy(net.classifier(x.mean((2, 3))), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    out["resnet20/losses"] = np.array(losses)
    for name, value in named.items():
        out[f"resnet20/params/{path(name)}"] = ours(value)
    for name, value in net.named_buffers():
        if "running" in name:
            out[f"resnet20/batch_stats/{name.replace('.running_', '/').replace('.', '/')}"] = value.numpy()
    np.savez_compressed(FILE, **out)


if __name__ == "__main__":
    main()
