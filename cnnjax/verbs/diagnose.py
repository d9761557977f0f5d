"""The verb `cnnjax diagnose`."""

import dataclasses
import sys
from pathlib import Path

import tyro

from cnnjax.config import Config, Dtype
from cnnjax.errors import UserError
from cnnjax.verbs.options import parse_options, show_result


@dataclasses.dataclass(frozen=True)
class Diagnose:
    """Examine a network on one batch: will it train, and if not, why?"""

    name: tyro.conf.Positional[str]
    """A network, a run's folder, package.module:Net or path/net.py:Net."""
    data: str | None = None
    """Data set in memory; by default the run's, Fashion-MNIST's embedded part, or generated photographs."""
    options: tuple[str, ...] = ()
    """Fields of the network to override, such as width=8 shortcut=B."""
    batch_size: int = 32
    """Images of the one batch."""
    optimizer: str = "sgd"
    """sgd (with momentum 0.9), adam, or any other of optax's."""
    optimizer_options: tuple[str, ...] = ()
    """Arguments of the optimizer, such as b2=0.95."""
    learning_rate: float = 0.1
    """Its learning rate."""
    dtype: Dtype = "float32"
    """Of the network's computation."""
    seed: int = 0
    """Of the initial weights."""
    steps: int = 50
    """Steps of the trial to learn the batch by heart."""
    over: str | None = None
    """Check sizes against a field instead: width=8,16,32,64, or depth=8,20,44 for networks of ours."""
    json: bool = False
    """Print one JSON object."""
    figure: Path | None = None
    """PNG to draw the statistics to; an SVG lies beside it."""

    def run(self) -> None:
        """Print the report."""
        config = Config(
            model_options=parse_options("--options", self.options),
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            optimizer_options=parse_options("--optimizer-options", self.optimizer_options),
            learning_rate=self.learning_rate,
            schedule="constant",
            weight_decay=0.0,
            dtype=self.dtype,
            seed=self.seed,
        )
        if self.over is not None and self.figure is not None:
            raise UserError("--figure is for a diagnosis; leave it out with --over")

        from cnnjax.checkup import diagnose_named, over
        from cnnjax.compilation import use_cache

        use_cache()
        if self.over is not None:
            scaling = over(self.name, *_values(self.over), config, self.data)
            show_result(scaling, self.json)
            return
        health = diagnose_named(self.name, config, self.data, self.steps)
        show_result(health, self.json)
        if self.figure is not None:
            print(health.figure(self.figure), file=sys.stderr if self.json else sys.stdout)


def _values(text: str) -> tuple[str, list[float]]:
    """Field and numbers of FIELD=NUMBER,NUMBER,..."""
    field, equals, numbers = text.partition("=")
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if not field or not equals or len(values) < 2:
        raise UserError(f"--over {text}: must be FIELD=NUMBER,NUMBER,..., such as width=8,16,32,64")
    return field, values
