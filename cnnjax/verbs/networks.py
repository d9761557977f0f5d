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
        from cnnjax.terminal import show, table

        names = list_models(self.pattern)
        if not names:  # one in no paper's table may build all the same; if not, the error says why
            build(self.pattern)
            names = [self.pattern]
        show(table([(name, find(name)[0].reference) for name in names], align="l"))


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
        from cnnjax.costs import compare, story
        from cnnjax.counting import summary
        from cnnjax.terminal import show

        if self.compare:
            names = filter(None, (self.name, *self.compare))
            show(compare(*(summary(name, self.input) for name in names)))
        else:
            show(summary(self.name, self.input) if self.name else story())
