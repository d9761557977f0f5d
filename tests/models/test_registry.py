import dataclasses
from typing import Any

import jax.numpy as jnp
import pytest
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models import build, list_models, register, registry
from cnnjax.models.network import Network
from cnnjax.verbs.networks import Models


class Mine(nn.Module):
    """A user's network, with the fields that it happens to have."""

    width: int = 8
    sizes: tuple[int, ...] = (3,)

    @nn.compact
    def __call__(self, x):
        for size in self.sizes:
            x = nn.Conv(self.width, (size, size))(x)
        return x.mean((1, 2))


@pytest.fixture(autouse=True)
def entries(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_ENTRIES", list(registry._ENTRIES))


def mine(**fields):
    """Me 2024, table 1.

    More of it.
    """
    return Mine(**{"width": 2, **fields})


def test_a_registered_name_builds_and_is_listed(capsys):
    assert register("mine_1b", Mine)(mine) is mine
    assert build("mine_1b") == Mine(width=2)
    assert build("mine_1b", width=4, sizes=[3, 5]) == Mine(4, (3, 5))
    assert list_models("mine*") == ["mine_1b"]
    Models("mine*").run()
    assert capsys.readouterr().out == "mine_1b  Me 2024, table 1.\n"
    with pytest.raises(UserError, match="mine_1b has no field 'num_classes': its fields are sizes, width"):
        build("mine_1b", num_classes=10)
    with pytest.raises(UserError, match="width='a': must be a whole number"):
        build("mine_1b", width="a")
    with pytest.raises(UserError, match="did you mean mine_1b"):
        build("mine_1")


def test_a_pattern_lists_what_it_is_told_to():
    @register("mine{depth}_{k}", Mine, [(2, 8)])
    def pattern(depth, k, **fields):
        return Mine(**{"sizes": (3,) * depth, "width": k, **fields})

    register("others{sizes}", Mine)(lambda sizes, **fields: Mine(sizes=(sizes,), **fields))
    assert build("mine3_4") == Mine(4, (3, 3, 3))
    assert build("others5", width=1) == Mine(1, (5,))
    assert list_models("mine*") == ["mine2_8"]
    assert list_models("others*") == []


def test_a_function_without_a_docstring_is_shown_by_its_class(capsys):
    register("bare", Mine)(lambda **fields: Mine(**fields))
    register("itself", Network)(Network)
    Models("bare").run()
    assert capsys.readouterr().out == f"bare  {Mine.__module__}.Mine\n"
    Models("itself").run()
    assert capsys.readouterr().out.startswith("itself  ")


@pytest.mark.parametrize(
    ("taken", "by"),
    [
        ("mine", "mine"),
        ("resnet20", "resnet{depth}"),
        ("resnet7", "resnet{depth}"),  # no such depth, but it is that family that says so
        ("resnet{n}", "resnet{depth}"),
        ("vgg1{n}", "vgg{depth}"),
        ("lenet{n}", "lenet5"),
    ],
)
def test_a_name_is_given_once(taken, by):
    register("mine", Mine)(mine)
    before = list_models()
    number = taken.partition("{")[2].partition("}")[0]

    def make(n=0, **fields):
        return Mine(**fields)

    assert number in ("", "n")
    with pytest.raises(UserError, match=f"^register '{taken}': the name is taken, by '{by}'$"):
        register(taken, Mine)(make)
    assert list_models() == before


@pytest.mark.parametrize(
    ("template", "module", "make", "message"),
    [
        ("my net", Mine, mine, "a name has letters, digits"),
        ("", Mine, mine, "a name has letters, digits"),
        ("net.py:Net", Mine, mine, "a name has letters, digits"),
        ("mynet", Mine(), mine, "is not a class of flax.linen modules"),
        ("mynet", dict, mine, "is not a class of flax.linen modules"),
        ("mynet", Mine, lambda: Mine(), r"must be like def make\(\*\*fields\), but got an unexpected"),
        (
            "mynet{depth}",
            Mine,
            lambda d, **fields: Mine(),
            r"make\(depth, \*\*fields\), but missing a",
        ),
    ],
)
def test_what_cannot_be_registered(template, module, make, message):
    with pytest.raises(UserError, match=message):
        register(template, module)(make)


def test_a_function_that_returns_something_else():
    register("nothing", Mine)(lambda **fields: None)
    with pytest.raises(UserError, match="nothing: its function returned None, not a Mine"):
        build("nothing")


def test_fields_of_the_papers_networks_are_given_by_keyword():
    """So a base class may have defaults for fields that a network adds without."""
    networks = [entry.module for entry in registry._ENTRIES if issubclass(entry.module, Network)]
    assert len(networks) == len(registry._ENTRIES)
    for network in networks:
        assert all(field.kw_only for field in dataclasses.fields(network)), network


def test_annotations_that_cannot_be_resolved_are_not_checked():
    class Local(nn.Module):
        width: "Unknown" = 8  # noqa: F821
        dtype: Any = jnp.float32

    register("local", Local)(lambda **fields: Local(**fields))
    assert build("local", width=4).width == 4
