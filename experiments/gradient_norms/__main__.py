"""The command: `python -m experiments.gradient_norms`."""

import os

from cnnjax.command import parse
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import FAMILIES, Args


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the table and the paths."""
    chosen, settings = args.chosen, args.settings  # what cannot be is said before jax is imported
    if chosen.steps < 1_000:  # programs are compiled longer than they run; workers inherit it
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

    from cnnjax.compilation import use_cache
    from cnnjax.data import load
    from cnnjax.models import build
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings
    from .initial import measure_initial
    from .rows import table
    from .training import measure_training, train

    for depth in chosen.depths:
        initial = [FAMILIES[name].model(depth) for name in args.families]
        for model in (*initial, *(f"{name}{depth}" for name in args.trained)):
            build(model)  # what cannot be built is rejected before the folder is made
    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    found = Findings()
    with experiment_dir(args.out, settings, growing=("families", "trained", "depths")):
        trained = bool(chosen.steps and args.trained)
        if trained:
            train(args, data)
        if args.families:
            measure_initial(args, data, found)
        if trained:
            measure_training(args, found)
    found.tables |= table(found.results)
    found.write(args.out, str(question))
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("gradient_norms"):
        main(parse(Args, question))
