"""The same residual network in PyTorch, to compare with ours: channels last, as its users write it."""

# pyright: reportMissingImports=false
# PyTorch is the extra `parity`, which need not be installed where types are checked.

from typing import Any

from cnnjax.errors import UserError


def step(model: Any, batch: int, image: tuple[int, int, int], compiled: bool = False):
    """A function that takes one training step of `model`'s twin (SGD, momentum, decay) on random images.

    `compiled` says whether network and loss go through `torch.compile`, the optimizer stays eager.

    Raises:
        UserError: PyTorch is missing, or there is no twin of this network.
    """
    try:
        import torch
    except ImportError:
        raise UserError("--against torch: PyTorch is missing: pip install 'cnnjax[parity]'") from None
    fits = {
        "block": ("basic", "bottleneck"),
        "order": ("original", "full_preactivation"),
        "shortcut": ("none", "A", "B", "B_without_bn"),
        "norm": ("batch",),
        "activation": ("relu",),
        "cardinality": (1,),
        "base_width": (64,),
        "dropout": (0,),
        "survival": (1,),
    }
    if not hasattr(model, "stage_sizes") or any(
        getattr(model, field, values[0]) not in values for field, values in fits.items()
    ):
        raise UserError(f"--against torch: {type(model).__name__} has no twin; plain and residual nets have")
    original = model.order == "original"

    from torch import nn
    from torch.nn import functional

    def conv(c_in, c_out, size, stride=1):
        return nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, c_in, filters, stride, activated):
            super().__init__()
            if model.block == "basic":
                c_out, sizes, strides = filters, (3, 3), (stride, 1)
                widths = (c_in, filters, filters)
            else:
                c_out, sizes = 4 * filters, (1, 3, 1)
                strides = (stride, 1, 1) if model.strides_at == "1x1" else (1, stride, 1)
                widths = (c_in, filters, filters, c_out)
            self.convs = nn.ModuleList(map(conv, widths[:-1], widths[1:], sizes, strides))
            self.norms = nn.ModuleList(map(nn.BatchNorm2d, widths[1:] if original else widths[:-1]))
            if activated and not original:  # by the stem
                self.norms[0] = nn.Identity()
            self.projection = None
            self.stride, self.new_channels = stride, c_out - c_in
            if model.shortcut.startswith("B") and (stride > 1 or self.new_channels):
                self.projection = conv(c_in, c_out, 1, stride)
                if model.shortcut == "B":
                    self.projection = nn.Sequential(self.projection, nn.BatchNorm2d(c_out))

        def shortcut(self, x):
            if self.projection:
                return self.projection(x)
            if self.stride > 1 or self.new_channels:
                x = x[:, :, :: self.stride, :: self.stride]
                return functional.pad(x, (0, 0, 0, 0, 0, self.new_channels))
            return x

        def forward(self, x):
            y = x
            if original:
                for index, (convolution, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                    y = norm(convolution(functional.relu(y) if index else y))
                return functional.relu(y if model.shortcut == "none" else y + self.shortcut(x))
            activated = functional.relu(self.norms[0](x))
            y = self.convs[0](activated)
            for convolution, norm in zip(self.convs[1:], self.norms[1:], strict=True):
                y = convolution(functional.relu(norm(y)))
            return y + self.shortcut(activated if self.projection else x)

    channels = model.width
    if model.stem == "imagenet":
        layers: list[Any] = [conv(image[2], channels, 7, 2), nn.BatchNorm2d(channels), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, 2, 1))
    else:
        layers = [conv(image[2], channels, 3)]
        layers += [nn.BatchNorm2d(channels), nn.ReLU()] if model.stem_activates else []
    for stage, blocks in enumerate(model.stage_sizes, start=1):
        filters = model.filters(stage)
        for index in range(blocks):
            activated = stage == 1 and index == 0 and model.stem_activates
            layers.append(Block(channels, filters, 2 if stage > 1 and index == 0 else 1, activated))
            channels = filters if model.block == "basic" else 4 * filters
    if not original:
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, model.num_classes)]
    network = nn.Sequential(*layers)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=1e-4)
    images = torch.randn(batch, image[2], *image[:2]).to(memory_format=torch.channels_last)
    labels = torch.randint(0, model.num_classes, (batch,))

    def loss():
        return functional.cross_entropy(network(images), labels)

    forward = torch.compile(loss) if compiled else loss

    def take():
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    take.parameters = sum(p.numel() for p in network.parameters())
    return take
