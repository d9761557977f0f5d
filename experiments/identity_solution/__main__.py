"""The command: `python -m experiments.identity_solution`."""

import functools

from cnnjax.command import parse
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import Args, plan


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    chosen = args.chosen  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import load, spec
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, do_missing, run_all
    from ..workers import Job
    from .conclusions import answer, conclude
    from .growing import Growth, check_depths

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    check_depths(chosen)
    runs = plan(args, spec(chosen.data).flips, min(data.train_images.shape[1:3]))
    with experiment_dir(
        args.out, {**args.settings, "data_source": data.source}, growing=("seeds", "data_source")
    ):
        # Of several jobs that share the folder only the last one comes further than this.
        ends = run_all(runs.first, args.out, data, **args.training)
        grown = [Growth(args.out, seed) for seed in range(chosen.seeds)]
        jobs = {one.file: Job(functools.partial(one.agreement, chosen, data)) for one in grown}
        do_missing(jobs, args.workers)
        ends |= run_all(runs.further, args.out, data, may_diverge=True, **{**args.training, "part": None})
        found = Findings()
        agreements = [one.agreement(chosen, data) for one in grown]
        conclude(chosen, runs, ends, agreements, found, args.out)
    found.write(args.out, f"{question}\n{answer(chosen, found.results)}\n")
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("identity_solution"):
        main(parse(Args, question))
