"""The command: `python -m experiments.degradation_causes`."""

import dataclasses

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

    from ..runner import Findings, measure_all, run_all
    from .claims import answer
    from .conclusions import conclude
    from .measurement import GradientProbe, Verdicts

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    arms = plan(args, spec(chosen.data).flips, min(data.train_images.shape[1:3]))
    runs = {
        arm.run(seed): dataclasses.replace(arm.config, seed=seed)
        for arm in arms
        for seed in range(chosen.seeds)
    }
    settings = {**args.settings, "data_source": data.source}
    with experiment_dir(args.out, settings, growing=("depths", "models", "remedies", "seeds", "data_source")):
        ends = run_all(runs, args.out, data, probes=GradientProbe(), may_diverge=True, **args.training)
        verdicts = {arm.run(0): Verdicts(arm, args.out / "verdicts", chosen.seeds) for arm in arms}
        judged = measure_all(verdicts, args.workers, data)
        found = Findings()
        conclude(arms, chosen, ends, list(judged.values()), found, args.out, 1 - 1 / data.classes)
    found.write(args.out, f"{question}\n{answer(found.results)}\n")
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("degradation_causes"):
        main(parse(Args, question))
