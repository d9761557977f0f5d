"""What a recipe is: values of a Config, each with its source, and what the paper reports for them."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnnjax.config import Config
from cnnjax.errors import UserError

CIFAR, IMAGENET = 50_000, 1_281_167
"""Training images."""


class Choice(NamedTuple):
    """A field's value, and where it is from: a section or table of the paper, or the authors' code."""

    value: Any
    source: str


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a paper trains its networks.

    Attributes:
        paper: authors, year, and where to read it.
        choices: values of Config's fields; those not named keep Config's defaults.
        published: the paper's test error, in words, by network.
        differs: what the paper does and this recipe does not, a line each.
    """

    paper: str
    choices: Mapping[str, Choice]
    published: Mapping[str, str]
    differs: tuple[str, ...] = ()

    def config(self, **changes: Any) -> Config:
        """The Config of the paper, with fields that are changed.

        Raises:
            UserError: there is no such field, or it cannot have this value.
        """
        known = [field.name for field in dataclasses.fields(Config)]
        if unknown := [name for name in changes if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=2, cutoff=0)
            raise UserError(f"Config has no field {unknown[0]!r}; did you mean {' or '.join(near)}?")
        return Config(**{name: choice.value for name, choice in self.choices.items()} | changes)

    def explain(self, config: Config) -> str:
        """Every field of the config with its source, what it differs in, and the published error, as text."""
        lines = [self.paper, ""]
        rows = [("field", "value", "source"), *(self._row(name, own) for name, own in vars(config).items())]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines += [f"{name:{widths[0]}}  {value:{widths[1]}}  {source}" for name, value, source in rows]
        lines += ["", "Not as in the paper:"] * bool(self.differs) + [f"- {line}" for line in self.differs]
        lines += ["", f"Published: {self.published.get(config.model, f'nothing for {config.model}')}"]
        return "\n".join(lines)

    def _row(self, name: str, value: Any) -> tuple[str, str, str]:
        paper = getattr(self.config(), name)
        source = self.choices[name].source if name in self.choices else "not stated; Config's default"
        return name, short(value), source if value == paper else f"yours; the recipe has {short(paper)}"


def short(value: Any) -> str:
    """A field's value as text, "-" for nothing."""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None or value == {} else str(value)


def epochs(number: int, images: int, batch_size: int) -> int:
    """Steps of so many passes over the images, in whole batches."""
    return number * (images // batch_size)


def stated(source: str, **values: Any) -> dict[str, Choice]:
    """Choices that have one source."""
    return {name: Choice(value, source) for name, value in values.items()}


def dropped(
    source: str, images: int, batch_size: int, passes: int, at: Sequence[int], rate_drop: float = 0.1
) -> dict[str, Choice]:
    """So many passes over the images, and a rate that drops after those `at`, by a factor."""
    return stated(
        source,
        schedule="piecewise",
        steps=epochs(passes, images, batch_size),
        rate_drop=rate_drop,
        boundaries=tuple(epochs(one, images, batch_size) for one in at),
    )


def on_plateau(source: str, per_epoch: int) -> dict[str, Choice]:
    """A rate that is divided by 10 when tests, one every epoch of so many steps, stop improving.

    The papers do not say for how long: 5 epochs.
    """
    every = {"evaluate_every": per_epoch, "checkpoint_every": per_epoch}
    return stated(source, schedule="plateau", rate_drop=0.1, patience=5, **every)


TORCH = "facebook/fb.resnet.torch, datasets/imagenet.lua"
TORCH_COLOURS = {
    **stated(f"{TORCH}: brightness, contrast and saturation by factors of 0.6 to 1.4", photometry=0.4),
    **stated(f"{TORCH}: along the principal components of colours", colour=0.1),
}
"""How authors whose code extends fb.resnet.torch change colours."""
