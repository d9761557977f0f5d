"""The command: `python -m experiments.landscape`."""

from cnnjax.command import parse
from cnnjax.config import CheckpointPolicy
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import Args, pairs, plan


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    chosen = args.chosen  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import load, spec
    from cnnjax.probes import filter_axes
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, check_on_shapes, measure_all, run_all
    from .answers import answer
    from .conclusions import conclude
    from .measuring import Around, Between

    use_cache()
    data = load(chosen.data, args.data_dir, verify=args.verify)
    runs = plan(args, spec(chosen.data).flips, min(data.train_images.shape[1:3]))
    for net in chosen.nets if args.models else ():  # ours can be measured
        check_on_shapes(runs.nets[net.run(0)], data, lambda model, v, batch: filter_axes(model, v, batch[0]))
    settings = {**args.settings, "data_source": data.source}
    out, first = args.out, chosen.nets[0]
    with experiment_dir(out, settings, growing=("seeds", "data_source")):
        every = next(iter(runs.nets.values())).checkpoint_every
        # Of several jobs that share the folder only the last one comes further than this.
        ends = run_all(runs.nets, out, data, **{**args.training, "keep": CheckpointPolicy(every=every)})
        ends |= run_all({**runs.batches, **runs.curves}, out, data, **{**args.training, "part": None})
        around = {
            name: Around(
                out / name,
                out / "around" / f"{name}.npz",
                config.seed,
                plane=name in runs.nets and config.seed == 0,
                box=name in runs.batches,
            )
            for name, config in {**runs.nets, **runs.batches}.items()
        }
        between = {
            f"curve_{one}_{other}": Between(
                (out / first.run(one), out / first.run(other)),
                out / f"curve_{one}_{other}",
                out / "between" / f"{one}_{other}.npz",
            )
            for one, other in pairs(chosen.seeds)
        }
        everything = {**around, **between}
        longest_first = sorted(everything, key=lambda name: not getattr(everything[name], "plane", False))
        arrays = measure_all({name: everything[name] for name in longest_first}, args.workers, chosen, data)
        found = Findings()
        nets, ways = {name: arrays[name] for name in around}, [arrays[name] for name in between]
        conclude(chosen, runs, ends, nets, ways, found, out)
    found.write(out, f"{question}\n{answer(found.results, found.others)}\n")
    found.log(out, args.running.sinks)


if __name__ == "__main__":
    with joined(), one_line_errors("landscape"):
        main(parse(Args, question))
