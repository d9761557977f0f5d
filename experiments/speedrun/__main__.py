"""The command: `python -m experiments.speedrun`."""

from cnnjax.command import parse
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import Args


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    chosen = args.chosen  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import load, spec
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, run_all
    from .conclusions import answer, conclude

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    flips, images, side = spec(chosen.data).flips, len(data.train_images), min(data.train_images.shape[1:3])
    arms = list(args.arms(flips))
    settings = {**args.settings, "data_source": data.source}
    runs = {
        arm.run(seed): args.config(arm, seed, images, flips, side)
        for arm in arms
        for seed in range(chosen.seeds)
    }
    with experiment_dir(args.out, settings, growing=("seeds", "passes", "nets", "data_source")):
        ends = run_all(runs, args.out, data, **args.training)
        found = Findings()
        conclude(arms, chosen.seeds, ends, found, args.out)
    found.write(args.out, f"{question}\n{answer(found.others['without'])}\n")
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("speedrun"):
        main(parse(Args, question))
