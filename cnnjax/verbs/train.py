"""The verbs `cnnjax recipes` and `cnnjax train`."""

import argparse
import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.papers import RECIPES, find, recipe
from cnnjax.reporting import write_run_report
from cnnjax.run_flags import RUNNING, Running
from cnnjax.verbs.options import with_options


@dataclasses.dataclass(frozen=True)
class Recipes:
    """List the papers' recipes, with the paper each is from."""

    def run(self) -> None:
        """Print one line per recipe."""
        from cnnjax.terminal import show, table

        show(table([(name, one.paper) for name, one in RECIPES.items()], align="l"))


def _from_recipe() -> Config:
    """What the command line's flags change: a recipe's Config if it names one, or else the default."""
    flag = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flag.add_argument("--recipe", nargs="?")
    name = flag.parse_known_args()[0].recipe
    return Config() if name is None else recipe(name)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train and test a network; the same command continues where it was stopped."""

    out: Path | None = None
    """Folder of the run."""
    recipe: str | None = None
    """The paper whose recipe to follow, of those that `cnnjax recipes` lists; other flags change it."""
    explain: bool = False
    """Print every value of the run and where it is from, and train nothing."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=_from_recipe)
    options: tuple[str, ...] = ()
    """Fields of the network to override, such as width=8 shortcut=B."""
    optimizer_options: tuple[str, ...] = ()
    """Arguments of the optimizer, such as b2=0.95."""
    schedule_options: tuple[str, ...] = ()
    """Arguments of optax's schedule, such as decay_rate=0.5."""
    groups: tuple[str, ...] = ()
    """Parameters with their own rate or decay, such as '*/bias:rate=2,decay=0'."""
    data_dir: Path | None = None
    """Folder that holds the data set's official archives."""
    verify: bool = True
    """Whether archives must have the official checksums."""
    workers: int = 0
    """Processes that read photographs ahead; 0 uses threads. Changes no numbers."""
    running: Annotated[Running, tyro.conf.arg(name="")] = RUNNING

    def run(self) -> None:
        """Print the final metrics."""
        if self.workers < 0:
            raise UserError(f"--workers {self.workers}: must not be negative")
        config = with_options(self)
        paper = None if self.recipe is None else find(self.recipe)
        if self.explain:
            if paper is None:
                raise UserError("--explain: give a --recipe too; `cnnjax recipes` lists them")
            from cnnjax.terminal import show

            show(paper.explain(config))
            return
        if self.out is None:
            raise UserError(
                f"--out: give the run's folder, such as --out runs/{config.model.rpartition(':')[2]}"
            )

        from cnnjax.compilation import use_cache
        from cnnjax.data import open_data
        from cnnjax.mesh import parse_mesh
        from cnnjax.running import train

        use_cache()
        mesh = None if self.running.mesh is None else parse_mesh(self.running.mesh)
        data = open_data(config.data, self.workers, self.data_dir, verify=self.verify)
        result = train(config, self.out, data=data, **{**vars(self.running), "mesh": mesh})
        write_run_report(self.out)
        print("\n".join(f"{name} {value:.4f}" for name, value in result.metrics.items()))
        if paper is not None and config.model in paper.published:
            print(f"published {paper.published[config.model]}")
