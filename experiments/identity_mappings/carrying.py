"""What the shortcuts of a residual network carry by themselves, block by block.

A block's output is f(h(x) + F(x)): the shortcut's h(x), the branch's F(x), and f, what follows the addition.
He et al. 2016, equations 3 to 7, take h(x) = lambda x and f the identity: then a signal comes through l
shortcuts multiplied by their lambda, and so does a gradient on its way back. Here a part of the signal is
sent through the shortcuts alone of a network as it is: through h, or through f and h. Both are linear in that
part, with gates, masks and statistics those of the images at hand. What arrives is compared with what would
arrive if all h and f were the identity (where the shape changes, option A).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from cnnjax.models.residual import Block
from cnnjax.models.shortcuts import (
    ConstantScaling,
    DropoutShortcut,
    NoShortcut,
    Projection,
    Shortcut,
    ShortcutOnlyGating,
)
from cnnjax.network import Network, as_network
from cnnjax.ops.depth import Looped, unstack
from cnnjax.probes.subject import as_subject, cross_entropy
from cnnjax.probes.taps import fit

KINDS = ("shortcut", "block")
"""What the signal is sent through: h alone, or f and h."""


class Link(NamedTuple):
    """One block's way along its shortcut: a function at x, whose derivative is that way."""

    function: Callable[[jax.Array], jax.Array]
    x: jax.Array
    factor: float = 1.0

    def forward(self, part: jax.Array) -> jax.Array:
        """What comes out of `part`, of the input's shape."""
        return self.factor * jax.jvp(self.function, (self.x,), (part,))[1]

    def backward(self, gradient: jax.Array) -> jax.Array:
        """The gradient by the input from that by the output."""
        return self.factor * jax.vjp(self.function, self.x)[1](gradient)[0]


def carried(
    model: Any, variables: Any, images: jax.Array, labels: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """What arrives of the signal and of the gradient through the shortcuts of a net of residual `Block`s.

    `model` is any network (`cnnjax.probes.subject`), `images` are [sample, height, width, channel], `labels`
    [sample]. Returns arrays [block], for so many blocks, 1 or more:

    - forward_shortcut, forward_block: mean size of what they make of the first block's input, relative to
      what identities would make of it;
    - backward_shortcut, backward_block: of the gradient of the loss by the last block's output, on its way
      back from there;
    - scale: each shortcut's mean factor, in order; NaN for a convolution;
    - closed_form: the same from its definition; for gates the measured mean.

    The network is in test mode, but dropout on shortcuts is on (with `key`), as a mask of zeros and ones: in
    training Flax also divides by the share that it keeps. Without blocks there are no arrays.
    """
    network, variables = as_subject(model, variables)
    if isinstance(source := network.source, Looped):
        network, variables = as_network(source.clone(loop="unrolled")), unstack(variables)  # pyright: ignore
    logits = functools.partial(_logits, network, variables, images)
    blocks, shortcuts = _seen(logits)
    if not blocks:
        return {}
    links = {
        "shortcut": [_of_shortcut(jax.random.fold_in(key, n), *each) for n, each in enumerate(shortcuts)],
        "block": [_of_block(*each) for each in blocks],
    }
    identities = [_identity(x, branch) for _, _, x, branch in shortcuts]
    last = links["block"][-1]
    end = jax.eval_shape(last.function, last.x)
    gradient = _gradient_after(len(blocks), end, logits, labels)
    found = {}
    for kind in KINDS:
        ways = zip(_forward(links[kind], blocks[0][2]), _forward(identities, blocks[0][2]), strict=True)
        found[f"forward_{kind}"] = jnp.stack([_size(part) / _size(whole) for part, whole in ways])
        ways = zip(_backward(links[kind], gradient), _backward(identities, gradient), strict=True)
        found[f"backward_{kind}"] = jnp.stack([_size(part) / _size(whole) for part, whole in ways])
    pairs = list(zip((each[0] for each in shortcuts), links["shortcut"], identities, strict=True))
    found["scale"] = jnp.stack([_scale(*pair) for pair in pairs])
    closed = [_closed_form(module, mean) for (module, *_), mean in zip(pairs, found["scale"], strict=True)]
    return {**found, "closed_form": jnp.stack(closed)}


def _logits(network: Network, variables: Any, images: jax.Array) -> jax.Array:
    return network.apply(variables, images, train=False)[0]


def _seen(forward: Callable[[], Any]) -> tuple[list[Any], list[Any]]:
    """The blocks and their shortcuts as (module, its variables, what it was called with), in order."""
    blocks, shortcuts = [], []

    def see(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        for kind, seen in ((Block, blocks), (Shortcut, shortcuts)):
            if context.method_name == "__call__" and isinstance(context.module, kind):
                seen.append((*context.module.unbind(), *args))
        return call(*args, **kwargs)

    with nn.intercept_methods(see):
        forward()
    return blocks, shortcuts


def _along_shortcuts(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    """Branches and gates count as constants."""
    module, method = context.module, context.method_name
    if isinstance(module, Shortcut) and method == "__call__":
        x, branch = args
        return call(x, lax.stop_gradient(branch), **kwargs)
    is_gate = isinstance(module, ShortcutOnlyGating) and method == ShortcutOnlyGating.gate.__name__
    return lax.stop_gradient(call(*args, **kwargs)) if is_gate else call(*args, **kwargs)


def _of_block(module: Block, variables: Any, x: jax.Array) -> Link:
    def function(x: jax.Array) -> Any:
        with nn.intercept_methods(_along_shortcuts):
            return module.apply(variables, x)

    return Link(function, x)


def _of_shortcut(key: jax.Array, module: Shortcut, variables: Any, x: jax.Array, branch: jax.Array) -> Link:
    module = module.clone(train=True)  # of a shortcut's own layers, only dropout looks at that

    def function(x: jax.Array) -> Any:
        with nn.intercept_methods(_along_shortcuts):
            return module.apply(variables, x, branch, rngs={"dropout": key})

    is_dropout = isinstance(module, DropoutShortcut)
    return Link(function, x, 1 - module.shortcut_dropout if is_dropout else 1.0)


def _identity(x: jax.Array, branch: jax.Array) -> Link:
    return Link(lambda x: fit(x, branch.shape), x)


def _forward(links: Sequence[Link], part: jax.Array) -> list[jax.Array]:
    return [part := link.forward(part) for link in links]


def _backward(links: Sequence[Link], gradient: jax.Array) -> list[jax.Array]:
    return [gradient := link.backward(gradient) for link in reversed(links)]


def _size(values: jax.Array) -> jax.Array:
    return jnp.abs(values).mean()


def _gradient_after(blocks: int, end: Any, forward: Callable[[], jax.Array], labels: jax.Array) -> jax.Array:
    """The gradient of the loss by the output of the last of so many blocks, of the shape of `end`."""

    def loss(push: jax.Array) -> jax.Array:
        passed = []

        def add(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
            result = call(*args, **kwargs)
            if isinstance(context.module, Block) and context.method_name == "__call__":
                passed.append(context.module)
                result = result + push if len(passed) == blocks else result
            return result

        with nn.intercept_methods(add):
            return cross_entropy(forward(), labels).mean()

    return jax.grad(loss)(jnp.zeros(end.shape, end.dtype))


def _scale(module: Shortcut, link: Link, identity: Link) -> jax.Array:
    """The mean factor of what an identity would pass on."""
    if isinstance(module, Projection):
        return jnp.asarray(jnp.nan)
    ones = jnp.ones_like(link.x)
    return link.forward(ones).sum() / identity.forward(ones).sum()


def _closed_form(module: Shortcut, mean: jax.Array) -> jax.Array:
    """The factor by the shortcut's definition; `mean` is the measured one."""
    match module:
        case ShortcutOnlyGating() | Projection():
            return mean
        case NoShortcut():
            return jnp.zeros(())
        case ConstantScaling():
            return jnp.asarray(module.shortcut_scale)
        case DropoutShortcut():
            return jnp.asarray(1 - module.shortcut_dropout)
        case _:
            return jnp.ones(())
