"""The command: `python -m experiments.identity_mappings`."""

from cnnjax.command import parse
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import Args


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    chosen, settings = args.chosen, args.settings  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import load, spec
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, measure_all, run_all
    from .conclusions import answer, conclude
    from .measurement import Measurement

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    runs = args.configs(spec(chosen.data).flips, min(data.train_images.shape[1:3]))
    settings["data_source"] = data.source
    found = Findings()
    with experiment_dir(args.out, settings, growing=("nets", "seeds", "gate_biases", "data_source")):
        metrics = run_all(runs, args.out, data, may_diverge=True, **args.training)
        measurements = {
            name: Measurement(args.out / name, args.out / "carried" / f"{name}.npz", config.seed)
            for name, config in runs.items()
            if "diverged_at" not in metrics[name]
        }
        arrays = measure_all(measurements, args.workers, chosen, data)
        conclude(chosen, metrics, arrays, found, args.out)
    found.write(args.out, f"{question}\n{answer(found.results)}\n")
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("identity_mappings"):
        main(parse(Args, question))
