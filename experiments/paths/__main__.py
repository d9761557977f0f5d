"""The command: `python -m experiments.paths`."""

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
    from cnnjax.probes import gradients_by_length
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, check_on_shapes, measure_all, run_all
    from .conclusions import conclude
    from .measurement import Measurement

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    runs = args.configs(spec(chosen.data).flips, min(data.train_images.shape[1:3]))
    for net in chosen.nets if args.models else ():  # ours have residual blocks
        check_on_shapes(runs[net.run(0)], data, gradients_by_length)
    settings["data_source"] = data.source
    found = Findings()
    with experiment_dir(args.out, settings, growing=("nets", "seeds", "data_source")):
        metrics = run_all(runs, args.out, data, **args.training)
        measurements = {
            name: Measurement(args.out / name, args.out / "lengths" / f"{name}.npz", config.seed)
            for name, config in runs.items()
        }
        arrays = measure_all(measurements, args.workers, chosen, data)
        conclude(chosen, arrays, metrics, found, args.out)
    found.write(args.out, str(question))
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("paths"):
        main(parse(Args, question))
