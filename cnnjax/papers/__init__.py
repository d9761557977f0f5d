"""The papers' recipes as data: `recipe("wrn_cifar")` is the Config that trains as the paper did."""

import difflib
from collections.abc import Mapping
from typing import Any

from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.papers import (
    airbench,
    alexnet,
    densenet,
    fixup,
    fractalnet,
    googlenet,
    highway,
    inception_v3,
    lenet,
    residual,
    resnext,
    squeeze,
    stochastic_depth,
    vgg,
    wide,
)
from cnnjax.papers.recipe import Recipe

_FILES = (
    lenet, alexnet, vgg, googlenet, highway, residual, inception_v3, stochastic_depth, wide, fractalnet,
    densenet, resnext, squeeze, fixup, airbench,
)  # fmt: skip
RECIPES: Mapping[str, Recipe] = {name: one for file in _FILES for name, one in file.RECIPES.items()}
"""By name, in the order in which the papers appeared."""


def find(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "`cnnjax recipes` lists them"
        raise UserError(f"no recipe is called {name!r}: {hint}")
    return RECIPES[name]


def recipe(name: str, **changes: Any) -> Config:
    """The Config that trains as a paper did, with fields that are changed.

    Raises:
        UserError: there is no such recipe or field, or a value that cannot be.
    """
    return find(name).config(**changes)
