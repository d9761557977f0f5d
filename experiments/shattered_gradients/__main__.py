"""The command: `python -m experiments.shattered_gradients`."""

import tyro

import experiments.shattered_gradients as question
from cnnjax.errors import one_line_errors
from cnnjax.launch import alone
from experiments.shattered_gradients.settings import Args


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    alone()
    settings = args.settings  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.models.registry import find
    from cnnjax.training.claim import claimed
    from experiments.runner import Findings
    from experiments.shattered_gradients.convolutional import convolutional
    from experiments.shattered_gradients.depth import against_depth
    from experiments.shattered_gradients.grid import one_dimensional
    from experiments.shattered_gradients.looks_linear import looks_linear

    parts = {
        "one_dimensional": one_dimensional,
        "depth": against_depth,
        "convolutional": convolutional,
        "looks_linear": looks_linear,
    }
    for name in args.chosen.convolutional.models:
        find(name)
    use_cache()
    found = Findings()
    with claimed(args.out, settings, growing=("parts",)):
        for part in args.parts:
            parts[part](args, found)
    found.write(args.out, str(question.__doc__))


if __name__ == "__main__":
    with one_line_errors("shattered_gradients"):
        main(tyro.cli(Args, description=question.__doc__, prog="python -m experiments.shattered_gradients"))
