"""The verbs `cnnjax models` and `cnnjax summary`."""

import dataclasses

import tyro


@dataclasses.dataclass(frozen=True)
class Models:
    """List the networks, with the paper each is from."""

    pattern: tyro.conf.Positional[str] = "*"
    """Shell pattern for the names, such as 'resnet*'."""

    def run(self) -> None:
        """Print one line per network, with its name and reference."""
        from cnnjax.models.registry import build, find, list_models

        names = list_models(self.pattern)
        if not names:
            build(
                self.pattern
            )  # a name in no paper's table that builds all the same, or an error that says why
            names = [self.pattern]
        width = max(map(len, names))
        for name in names:
            print(f"{name.ljust(width)}  {find(name)[0].reference}")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Count a network layer by layer: output, parameters, multiply-adds, connections, receptive field."""

    name: tyro.conf.Positional[str] = ""
    """The network; without one, the comparisons of the papers."""
    input: int | None = None
    """Side of a square image, in pixels; the network's own by default."""
    compare: tuple[str, ...] = ()
    """Networks whose totals to compare side by side."""

    def run(self) -> None:
        """Print the table."""
        from cnnjax.comparison import compare, story
        from cnnjax.counting import summary

        if self.compare:
            names = filter(None, (self.name, *self.compare))
            print(compare(*(summary(name, self.input) for name in names)))
        else:
            print(summary(self.name, self.input) if self.name else story())
