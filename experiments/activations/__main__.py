"""The command: `python -m experiments.activations`."""

from cnnjax.command import parse
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import Args


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    chosen = args.chosen  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import load
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, check_on_shapes, run_all
    from .conclusions import answer, conclude, try_rates
    from .losses import lost_in_stacks

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    side = min(data.train_images.shape[1:3])
    for arm in args.arms() if args.models else ():  # ours have the fields
        check_on_shapes(args.config(arm, chosen.rates[0], 0, side), data, lambda *_: None)
    settings = {**args.settings, "data_source": data.source}
    with experiment_dir(args.out, settings, growing=("nets", "activations", "seeds", "data_source")):
        # Of several jobs that share the folder only the last one comes further than this.
        ends = run_all(args.pilots(side), args.out, data, may_diverge=True, **args.training)
        tried = try_rates(args)
        others = args.others(tried, side)
        if others:
            ends |= run_all(others, args.out, data, may_diverge=True, **{**args.training, "part": None})
        found = Findings()
        conclude(args, ends, tried, found)
        lost_in_stacks(chosen, args.out, found)
    found.write(args.out, f"{question}\n{answer(found)}\n")
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("activations"):
        main(parse(Args, question))
