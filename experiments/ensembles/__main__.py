"""The command: `python -m experiments.ensembles`."""

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
    from cnnjax.probes import find_blocks
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, check_on_shapes, measure_all, run_all
    from .conclusions import answer, conclude
    from .members import Member

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    runs = args.configs(spec(chosen.data).flips, min(data.train_images.shape[1:3]))
    for net in chosen.nets if args.models else ():  # ours have blocks
        check_on_shapes(runs[net.run(0)], data, lambda model, v, batch: find_blocks(model, v, batch[0]))
    settings = {**args.settings, "data_source": data.source}
    with experiment_dir(args.out, settings, growing=("nets", "seeds", "data_source")):
        run_all(runs, args.out, data, **{**args.training, "keep": args.keep})
        members = {
            name: Member(args.out / name, args.out / "probabilities" / f"{name}.npz", config.seed)
            for name, config in runs.items()
        }
        measured = measure_all(members, args.workers, chosen, data)
        found = Findings()
        arrays = {net.name: [measured[net.run(seed)] for seed in range(chosen.seeds)] for net in chosen.nets}
        conclude(arrays, data.test_labels, found, args.out)
    found.write(args.out, f"{question}\n{answer(found)}\n")
    found.log(args.out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("ensembles"):
        main(parse(Args, question))
