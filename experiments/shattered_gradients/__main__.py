"""The command: `python -m experiments.shattered_gradients`."""

from cnnjax.command import parse
from cnnjax.errors import one_line_errors
from cnnjax.launch import alone

from . import __doc__ as question
from .settings import Args


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    alone()
    settings = args.settings  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.models.registry import find
    from cnnjax.training.progress import each
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings
    from .convolutional import convolutional
    from .depth import against_depth
    from .grid import one_dimensional
    from .looks_linear import looks_linear

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
    with experiment_dir(args.out, settings, growing=("parts",)):
        for part in each(args.parts, "shattered gradients", "part"):
            parts[part](args, found)
    found.write(args.out, str(question))


if __name__ == "__main__":
    with one_line_errors("shattered_gradients"):
        main(parse(Args, question))
