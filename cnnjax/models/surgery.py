"""Change a trained network's weights, and not what it computes: deepen a plain net, or do without BatchNorm.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015 (arXiv 1512.03385), section 1: a
deeper model has "a solution by construction: the added layers are identity mapping, and the other layers are
copied from the learned shallower model". `grow` makes it. What follows a ReLU is not negative, so that a
Dirac convolution, BatchNorm that undoes itself and a ReLU are exactly the identity.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.resnet import BasicBlock, ResNet
from cnnjax.ops.depth import block_names, unstack
from cnnjax.ops.init import dirac

Place = Literal["end", "between"]
PLACES: tuple[Place, ...] = get_args(Place)
MAY_DIFFER = ("stage_sizes", "loop", "remat", "convolution", "dtype", "bn_momentum", "parent", "name")
"""Fields of the two networks that do not change what a layer computes, or where."""


def grow(
    variables: Mapping[str, Any],
    shallow: nn.Module,
    deep: nn.Module,
    images: jax.Array | None = None,
    place: Place = "end",
) -> dict[str, Any]:
    """Return variables of the plain net `deep` with which it computes what `shallow` does with `variables`.

    Without `images`, an inserted BatchNorm has mean 0, variance 1 and scale sqrt(1 + epsilon): it is the
    identity in evaluation. In training a batch's own statistics replace those, and the outputs are others.
    With `images` it has the stream's mean and variance in training on them, and undoes both by its scale and
    bias: on the same batch, it is the identity in training too.

    Args:
        variables: of `shallow`, by block or stacked.
        shallow: a plain net of basic blocks, such as `build("plain20")`.
        deep: the same with at least as many blocks in each stage, such as `build("plain56")`.
        images: [batch, height, width, channel], as the network takes them, to calibrate BatchNorm.
        place: where a stage's blocks are inserted: at its "end", or "between" those that are there, evenly.

    Raises:
        UserError: the networks are no such pair, or without BatchNorm there are `images`.
    """
    shallow, deep = _pair(shallow, deep, place)
    if images is not None and deep.norm == "none":
        raise UserError("images: there is no BatchNorm to calibrate")
    old = unstack(dict(variables))
    streams = {} if images is None else _streams(old, shallow, images)
    new = {kind: dict(tree) for kind, tree in old.items()}
    most = max(deep.stage_sizes), max(shallow.stage_sizes)
    for stage, (blocks, before) in enumerate(zip(deep.stage_sizes, shallow.stage_sizes, strict=True), 1):
        trained = block_names(stage, before, most[1])
        sources = _sources(blocks, before, place)
        for tree in new.values():
            for name in trained:
                tree.pop(name, None)
        for index, name in enumerate(block_names(stage, blocks, most[0])):
            source = trained[sources[index]]
            is_new = index > 0 and sources[index] == sources[index - 1]
            for kind, tree in old.items():
                if source in tree:
                    identity = _identity(tree[source], deep.bn_epsilon, streams.get(source, (0.0, 1.0)))
                    new[kind][name] = identity if is_new else tree[source]
    return new


def inserted_blocks(shallow: nn.Module, deep: nn.Module, place: Place = "end") -> list[str]:
    """Return the names of the blocks that `grow` inserts, in order; arguments and errors are its own."""
    shallow, deep = _pair(shallow, deep, place)
    found = []
    for stage, (blocks, before) in enumerate(zip(deep.stage_sizes, shallow.stage_sizes, strict=True), 1):
        sources = _sources(blocks, before, place)
        names = block_names(stage, blocks, max(deep.stage_sizes))
        found += [names[i] for i in range(1, blocks) if sources[i] == sources[i - 1]]
    return found


def fold(variables: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
    """Return variables of the same network with `norm="none"` that compute what it computes in evaluation.

    BatchNorm with its running averages is a factor and a shift of each channel: the kernel takes the one, the
    bias the other.

    Args:
        variables: of `network`, by block or stacked.
        network: a plain net, or a residual net with shortcuts "A", with BatchNorm after each convolution.

    Raises:
        UserError: it is another network.
    """
    if not (type(network) is ResNet and network.norm == "batch" and network.order == "original"):
        raise UserError(f"fold: needs a plain or residual net with BatchNorm, not {_describe(network)}")
    if network.shortcut not in ("none", "A"):
        raise UserError(f"shortcut={network.shortcut!r}: fold needs 'none' or 'A'")
    old = unstack(dict(variables))
    return {"params": _folded(old["params"], old["batch_stats"], network.bn_epsilon)}


def _folded(params: Mapping[str, Any], stats: Mapping[str, Any], epsilon: float) -> dict[str, Any]:
    new = {}
    for name, entry in params.items():
        if "kernel" in entry and (norm := _norm_after(name)) in stats:
            gain = params[norm]["scale"] * jax.lax.rsqrt(stats[norm]["var"] + epsilon)
            bias = params[norm]["bias"] + (entry.get("bias", 0) - stats[norm]["mean"]) * gain
            new[name] = {"kernel": entry["kernel"] * gain, "bias": bias}
        elif "scale" in entry:  # a BatchNorm, which is in its convolution now
            continue
        elif name in stats:  # a block
            new[name] = _folded(entry, stats[name], epsilon)
        else:
            new[name] = entry
    return new


def _norm_after(convolution: str) -> str:
    """The name of the BatchNorm after a convolution of a ResNet: bn1 after conv1."""
    return convolution.replace("conv", "bn")


def _sources(blocks: int, before: int, place: Place) -> list[int]:
    """For each of `blocks` the trained block, counted from 0, that it is or that it comes after."""
    if place == "end":
        return [min(index, before - 1) for index in range(blocks)]
    return [index * before // blocks for index in range(blocks)]


def _streams(
    variables: Mapping[str, Any], shallow: ResNet, images: jax.Array
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Mean and variance [channel] of what each block of `shallow` returns in training, by its name."""
    _, state = shallow.apply(
        variables,
        images,
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, method: isinstance(module, BasicBlock) and method == "__call__",
    )
    seen: dict[str, Any] = dict(state["intermediates"])
    outputs = {name: tree["__call__"][0] for name, tree in seen.items()}
    return {name: (y.mean((0, 1, 2)), y.var((0, 1, 2))) for name, y in outputs.items()}


def _identity(block: Any, epsilon: float, stream: tuple[Any, Any]) -> Any:
    """Variables of the shape of `block`'s, a collection's part, with which a block is the identity."""
    mean, var = stream

    def of_layer(layer: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        values = {"scale": jnp.sqrt(var + epsilon), "bias": mean, "mean": mean, "var": var}
        if "kernel" in layer:
            *extent, _, channels = layer["kernel"].shape  # the block may have had fewer channels before it
            values = {"kernel": dirac(jax.random.key(0), (*extent, channels, channels)), "bias": 0.0}
        whole = {
            name: value if jnp.ndim(value) else jnp.full(layer[name].shape, value)
            for name, value in values.items()
            if name in layer
        }
        return {name: value.astype(layer[name].dtype) for name, value in whole.items()}

    return {name: of_layer(layer) for name, layer in block.items()}


def _pair(shallow: nn.Module, deep: nn.Module, place: str) -> tuple[ResNet, ResNet]:
    """Return both; raise UserError unless `deep` is `shallow`, a plain net of ReLUs, with more blocks."""
    shallow, deep = _plain(shallow), _plain(deep)
    for name in ResNet.__dataclass_fields__:
        ours, theirs = getattr(shallow, name), getattr(deep, name)
        if name not in MAY_DIFFER and ours != theirs:
            raise UserError(f"grow: {name} is {ours!r} in the shallow net and {theirs!r} in the deep one")
    before, after = shallow.stage_sizes, deep.stage_sizes
    if len(before) != len(after) or any(ours > theirs for ours, theirs in zip(before, after, strict=True)):
        raise UserError(f"grow: stages of {before} blocks can't become stages of {after}, which is not more")
    if place not in PLACES:
        raise UserError(f"place={place!r}: must be one of {', '.join(PLACES)}")
    return shallow, deep


def _plain(network: nn.Module) -> ResNet:
    """Return a net whose blocks can be the identity; raise UserError for others."""
    if not (type(network) is ResNet and (network.shortcut, network.block) == ("none", "basic")):
        raise UserError(f"grow: needs plain nets of basic blocks, such as plain20, not {_describe(network)}")
    if network.norm == "layer":
        raise UserError("grow: needs norm='batch' or 'none', not 'layer': LayerNorm is no identity")
    if (network.order, network.activation) != ("original", "relu"):
        raise UserError(
            f"grow: needs order='original' and activation='relu', not {network.order!r} and "
            f"{network.activation!r}: a layer is the identity where ReLU has come before"
        )
    return network


def _describe(network: Any) -> str:
    fields = ("shortcut", "block", "norm", "order")
    given = ", ".join(f"{name}={getattr(network, name)!r}" for name in fields if hasattr(network, name))
    return f"{type(network).__name__}({given})"
