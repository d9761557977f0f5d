"""Settings: the networks to time, what to compare them with, and how often."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.config import Dtype

Rival = Literal["flax", "torch", "torch_compile"]


@dataclasses.dataclass(frozen=True)
class Args:
    """Time training steps, and compare them."""

    models: tuple[str, ...] = ("resnet20", "resnet56")
    """Names of networks."""
    batch: tuple[int, ...] = (128,)
    """Images per step."""
    image: int | None = None
    """Side of the images; by default the network's own."""
    dtype: tuple[Dtype, ...] = ("float32",)
    """Of the computation."""
    loop: tuple[Literal["auto", "scan", "unrolled"], ...] = ("auto",)
    """How to loop over depth, for networks that have such a loop."""
    against: tuple[Rival, ...] = ()
    """Also time the same network in plain Flax ("flax"), in PyTorch ("torch"), or by its compiler."""
    overheads: bool = False
    """Also time the step with its input (gather, augment, normalise) and inside the training loop."""
    vmap: bool = False
    """Also time four seeds in one program: a step of one of them, beside a step inside the training loop."""
    probes: bool = False
    """Also time the step with the statistics of every layer, at every step."""
    turns: int = 5
    """How often each is timed."""
    steps: int = 3
    """Steps per turn."""
    trace: Path | None = None
    """Folder for a profile of three steps, for xprof or Perfetto."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/throughput")
    """Folder for the summary and the figure."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One network to time."""

    model: str
    batch: int
    image: int | None
    dtype: Dtype
    loop: str

    def options(self, kind: str) -> dict[str, Any]:
        """Fields of the network; `kind` "flax" has it plain."""
        return {"loop": "unrolled", "convolution": "native"} if kind == "flax" else {"loop": self.loop}
