"""The command: `python -m experiments.lesion`."""

from cnnjax.command import parse
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import Args


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the table and the paths."""
    chosen = args.chosen  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import load, spec
    from cnnjax.probes import find_blocks
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, check_on_shapes, measure_all, run_all
    from .conclusions import conclude
    from .damage import Damage

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    runs = args.configs(spec(chosen.data).flips, min(data.train_images.shape[1:3]))
    for net in chosen.nets if args.models else ():  # ours have blocks
        check_on_shapes(runs[net.run(0)], data, lambda model, v, batch: find_blocks(model, v, batch[0]))
    settings = {**args.settings, "data_source": data.source}
    with experiment_dir(args.out, settings, growing=("nets", "seeds", "data_source")):
        run_all(runs, args.out, data, **args.training)
        damages = {
            name: Damage(args.out / name, args.out / "lesions" / f"{name}.npz", config.seed)
            for name, config in runs.items()
        }
        measured = measure_all(damages, args.workers, chosen, data)
        found = Findings()
        arrays = {net.name: [measured[net.run(seed)] for seed in range(chosen.seeds)] for net in chosen.nets}
        conclude(arrays, found, args.out, 1 - 1 / data.classes)
    found.write(args.out, str(question))
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("lesion"):
        main(parse(Args, question))
