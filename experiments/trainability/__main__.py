"""The command: `python -m experiments.trainability`."""

import functools

from cnnjax.command import parse
from cnnjax.errors import UserError, one_line_errors
from cnnjax.launch import joined

from . import __doc__ as question
from .settings import Args


def main(args: Args) -> None:
    """Run the study and write its folder; the terminal ends with the tables and the paths."""
    chosen, settings = args.chosen, args.settings  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import load
    from cnnjax.training.run_dir import experiment_dir

    from ..runner import Findings, do_missing
    from ..workers import Job
    from .families import patients
    from .study import Part, measure_share
    from .verdict import conclude

    architectures = patients(chosen.depths, chosen.width)
    families = tuple(dict.fromkeys(patient.family for patient in architectures))
    if unknown := [name for name in chosen.families if name not in families]:
        raise UserError(f"--families {unknown[0]!r}: must be of {'; '.join(families)}")
    use_cache()
    data = load(chosen.data).downsampled(2)
    found = Findings()
    with experiment_dir(args.out, settings):
        folder = args.out / "networks"
        parts = [
            Part(patient, folder / f"{patient.family} {patient.name}.json".replace(",", "").replace(" ", "_"))
            for patient in architectures
            if not chosen.families or patient.family in chosen.families
        ]
        jobs = {
            part.file: Job(
                functools.partial(measure_share, [part], chosen, data), part.nets, part.nets, part.nets
            )
            for part in parts
        }
        do_missing(jobs, args.workers)
        for part in parts:
            found.results += part.rows(chosen, data)
        conclude(found, args.out, chosen.steps)
    found.write(args.out, str(question))


if __name__ == "__main__":
    with joined(), one_line_errors("trainability"):
        main(parse(Args, question))
