"""The command: `python -m experiments.ablations`."""

import dataclasses

from cnnjax.command import parse
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import Args


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    chosen = args.chosen  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import Dataset, open_data, spec
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, measure_all, run_all
    from .calibration import Calibration
    from .conclusions import answer, conclude

    use_cache()
    data = open_data(chosen.data, data_dir=args.data_dir, verify=args.verify)
    images = (
        (spec(chosen.data).flips, min(data.train_images.shape[1:3])) if isinstance(data, Dataset) else None
    )
    studies = [args.study(name, images) for name in chosen.studies]
    runs = {
        study.run(title, seed): dataclasses.replace(config, seed=seed)
        for study in studies
        for title, config in study.configs.items()
        for seed in range(chosen.seeds)
    }
    settings = {**args.settings, "data_source": data.source}
    with experiment_dir(args.out, settings, growing=("studies", "seeds", "data_source")):
        ends = run_all(runs, args.out, data, may_diverge=True, **args.training)
        finished = (
            study.run(title, seed)
            for study in studies
            if study.calibrated
            for title in study.configs
            for seed in range(chosen.seeds)
        )
        calibrations = {
            run: Calibration(args.out / run, args.out / "calibration" / f"{run}.npz")
            for run in finished
            if "diverged_at" not in ends[run]
        }
        for run, arrays in measure_all(calibrations, args.workers, data).items():
            ends[run] = {**ends[run], "calibration_error": float(arrays["calibration_error"])}
        found = Findings()
        conclude(studies, chosen.seeds, ends, data, found, args.out)
    found.write(args.out, f"{question}\n{answer(found.others['differences'])}\n")


if __name__ == "__main__":
    with joined(), one_line_errors("ablations"):
        main(parse(Args, question))
