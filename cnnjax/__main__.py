"""The console command `cnnjax`. It parses and calls; jax is imported only by the verbs that compute."""

import sys
from typing import Annotated

import tyro

import cnnjax
from cnnjax.command import parse
from cnnjax.comparing import Compare
from cnnjax.completion import INSTALL, SHOW, complete
from cnnjax.errors import one_line_errors
from cnnjax.evaluating import Evaluate
from cnnjax.launch import joined
from cnnjax.reporting import Report, Watch
from cnnjax.slurm import Slurm
from cnnjax.verbs.data import Data
from cnnjax.verbs.diagnose import Diagnose
from cnnjax.verbs.machine import Doctor, Runs
from cnnjax.verbs.networks import Models, Summary
from cnnjax.verbs.plan import Plan
from cnnjax.verbs.predict import Predict
from cnnjax.verbs.train import Recipes, Train

Verb = (
    Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Summary, tyro.conf.subcommand("summary")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Recipes, tyro.conf.subcommand("recipes")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Diagnose, tyro.conf.subcommand("diagnose")]
    | Annotated[Slurm, tyro.conf.subcommand("slurm")]
    | Annotated[Runs, tyro.conf.subcommand("runs")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Watch, tyro.conf.subcommand("watch")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


DESCRIPTION = (
    "Why deep convolutional networks train, or do not. `cnnjax --version` tells the version; "
    "`cnnjax --install-completion` has the Tab key complete verbs, flags and names in bash, zsh and fish "
    "(--show-completion prints the script)."
)


def main() -> None:
    """Entry point of `cnnjax` and `python -m cnnjax`."""
    with joined(), one_line_errors("cnnjax"):
        if sys.argv[1:] == ["--version"]:
            print(f"cnnjax {cnnjax.__version__}")
        elif sys.argv[1:2] in ([INSTALL], [SHOW]):
            complete(Verb, sys.argv[1:])
        else:
            parse(Verb, DESCRIPTION, prog="cnnjax").run()
        sys.stdout.flush()


if __name__ == "__main__":
    main()
