"""Expected scaling: the speed that communication leaves on up to 1,024 accelerators, and its limits.

A model, not a measurement; docs/experiments/expected_scaling.md explains it and `experiments.scaling`
measures. Give the speed that `experiments.throughput` measured on one device, and your cluster's links.
"""

import dataclasses
import math

from cnnjax.command import parse
from cnnjax.errors import UserError, one_line_errors


@dataclasses.dataclass(frozen=True)
class Args:
    """Print a table, in Markdown, of the expected efficiency of data parallel training."""

    models: tuple[str, ...] = ("resnet50", "wrn28_10")
    """Names of networks."""
    batch: int = 128
    """Images per device and step, in weak scaling."""
    whole_batch: int = 4096
    """Images of all devices per step, in strong scaling."""
    macs_per_second: float = 3e13
    """Multiply-adds per second of a device in training, as measured; the default is an assumption."""
    node: int = 8
    """Devices in a node."""
    node_bandwidth: float = 4e11
    """Bytes per second that a device sends within its node."""
    bandwidth: float = 5e10
    """Bytes per second that a device sends to other nodes."""
    latency: float = 1e-5
    """Seconds that the shortest message between two devices takes."""
    devices: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512, 1024)
    """Numbers of devices."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value == ():
                raise UserError(f"--{field.name}: there must be one")
            if field.name != "models" and min(value if isinstance(value, tuple) else (value,)) <= 0:
                raise UserError(f"--{field.name.replace('_', '-')} {value}: must be above 0")


@dataclasses.dataclass(frozen=True)
class Net:
    """Costs of a network: `macs` of an image forward, bytes of `gradients`, number of `norms`."""

    macs: int
    gradients: int
    norms: int


def step_seconds(net: Net, images: float, devices: int, args: Args, global_norm: bool) -> float:
    """Seconds per step with `images` on each of the devices.

    Forward and backward pass: three times the forward multiply-adds. The gradients are summed within nodes,
    in rings, and between them, in trees, during the backward pass, two thirds of the step; only what takes
    longer adds to it. A BatchNorm over the global batch adds three waits, for the mean, the variance and the
    gradients of its scale and bias: their messages go up and down a tree of the devices.
    """
    work = 3 * net.macs * images / args.macs_per_second
    inside, nodes = min(devices, args.node), max(1, devices // args.node)
    sums = 2 * net.gradients * (inside - 1) / inside / args.node_bandwidth
    sums += 2 * net.gradients / inside * (nodes - 1) / nodes / args.bandwidth
    sums += 2 * (inside - 1 + math.log2(nodes)) * args.latency
    norms = 3 * net.norms * 2 * math.log2(devices) * args.latency if global_norm else 0.0
    return work + max(0.0, sums - work * 2 / 3) + norms


def count(name: str) -> Net:
    """Count the costs of the network called `name`."""
    from cnnjax import summary
    from cnnjax.ops.norm import BatchNorm

    counted = summary(name)
    norms = sum(layer.kind.startswith(BatchNorm.__name__) for layer in counted.layers)
    return Net(counted.macs, 4 * counted.parameters, norms)


def rows(name: str, args: Args) -> list[list[str]]:
    """Rows of the table of one network."""
    net = count(name)

    def efficiency(images: float, devices: int, global_norm: bool) -> str:
        ideal = step_seconds(net, images, 1, args, global_norm)
        return f"{100 * ideal / step_seconds(net, images, devices, args, global_norm):.0f} %"

    return [
        [
            f"`{name}`",
            f"{devices:,}",
            *(efficiency(args.batch, devices, global_norm) for global_norm in (True, False)),
            f"{args.whole_batch / devices:g}",
            *(efficiency(args.whole_batch / devices, devices, global_norm) for global_norm in (True, False)),
        ]
        for devices in args.devices
    ]


def main(args: Args) -> None:
    """Print the table."""
    header = [
        "network", "devices", f"weak, {args.batch} images each", "the same, BN local",
        f"images each of {args.whole_batch:,}", "strong", "the same, BN local",
    ]  # fmt: skip
    for cells in (header, ["---"] * len(header), *(row for name in args.models for row in rows(name, args))):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    with one_line_errors("expected_scaling"):
        main(parse(Args, __doc__))
