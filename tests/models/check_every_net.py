"""Does every parameter of every network get a gradient, and is a depth in a name that of the network?

Run by hand, for it takes most of an hour: `python -m tests.models.check_every_net`, or for some networks
alone `python -m tests.models.check_every_net 'resnet*' vgg11`. The networks are narrow and their images
small, but they are as deep as they are, up to DenseNets, whose blocks have two layers when it comes to
gradients. Of each one program is compiled and run, the gradient of a training step in bfloat16, with
activations recomputed, mapped over two batches by `jax.vmap`; it scans over depth where the network can.
"""

import os
import re
import sys
import time
from functools import partial

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # these programs are compiled more than run

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from cnnjax import build, list_models
from cnnjax.models import stack, unstack
from cnnjax.models.registry import find
from tests.counting import random_variables, trace
from tests.gradients import compiled

CLASSES, BATCH = 4, 4
WIDTHS = {  # narrowest that still has every layer, by the beginning of the name
    r"alexnet$|zfnet": 6, r"vgg": 2, r"nin": 16, r"googlenet|(se_)?bn_inception": 8, r"lenet5_modern": 3,
    r"resnext\d+_\d+x[48]d|se_resnext": 16, r"senet154": 32, r"wrn": 1, r"highway": 8, r"looks_linear": 8,
}  # fmt: skip
SIDES = {
    r"alexnet_cifar|cuda": 16,
    r"alexnet$": 224,
    r"alexnet": 63,
    r"googlenet_t": 64,
    r"(se_)?bn_inc": 64,
    r"nin_i": 64,
}
DEPTH = re.compile(r"(?!lenet|nin|inception)[a-z_]*?[a-z](\d+)(_|$)")


def lookup(table, name, default):
    return next((value for pattern, value in table.items() if re.match(pattern, name)), default)


def narrow(name):
    """The network and the shape of its images, both as small as they can be."""
    known = find(name)[0].module.__dataclass_fields__
    fields = {"width": lookup(WIDTHS, name, 4), "loop": "scan", "reduction": 1}
    if "stochastic" in name:
        fields["survival"] = 1 - 1e-6  # an absent branch has no gradient
    model = build(name, num_classes=CLASSES, **{key: fields[key] for key in fields.keys() & known.keys()})
    natural, *_, channels = model.input_shape
    by_stem = {"cifar": 8, "imagenet": 32}.get(getattr(model, "stem", ""), natural)
    side = lookup(SIDES, name, by_stem)
    return model, (side, side, channels)


def weighted_layers(name, params):
    """As the papers count them: what is beside the main path does not count."""
    kernels = [path for path in params if path[-1] == "kernel"]
    if name.startswith("wrn"):  # projections are counted, the classifier is not
        return len(kernels) - 1
    beside = {"shortcut", "gate", "se"}
    fully_connected = re.fullmatch(r"highway(_plain)?\d+", name)  # its softmax layer is not counted
    return sum(beside.isdisjoint(path) for path in kernels) - bool(fully_connected)


def loss(model, variables, params, images):
    """In training, auxiliary classifiers included."""
    logits, new = model.apply(
        {**variables, "params": params},
        images,
        train=True,
        mutable=["batch_stats", "auxiliary"],
        rngs={"dropout": jax.random.key(1)},
    )
    heads = [logits, *jax.tree.leaves(new.get("auxiliary", {}))]
    assert all(head.dtype == jnp.float32 for head in heads)
    return sum(jnp.square(head - jnp.arange(CLASSES)).mean() for head in heads)


def gradients(model, variables, images):
    """The mean over the batches [batches, batch, height, width, channel], by path."""
    remat = {"remat": True} if hasattr(model, "remat") else {}
    model = model.clone(dtype=jnp.bfloat16, **remat)
    whole = partial(loss, model, variables)
    each = jax.vmap(jax.grad(whole if remat else jax.checkpoint(whole)), (None, 0))

    def mean(params):
        return jax.tree.map(lambda leaf: leaf.mean(0), each(params, images))

    params = variables["params"]
    return flatten_dict(unstack(jax.device_get(compiled(mean, params)(params))))


def faults(name):
    """What is wrong with a network, a line each, and how many arrays its parameters are."""
    model, image = narrow(name)
    params = flatten_dict(trace(model, image)["params"])
    found = []
    if match := DEPTH.match(name):
        layers, depth = weighted_layers(name, params), int(match[1]) + (name == "densenet264")
        if layers != depth:
            found.append(f"{layers} weighted layers")
    if hasattr(model, "block_sizes"):  # dense blocks differ in length alone, and cannot be scanned
        model = model.clone(block_sizes=tuple(min(size, 2) for size in model.block_sizes))
    variables = jax.tree_util.tree_map_with_path(tamed, random_variables(model, image))
    images = jax.random.normal(jax.random.key(0), (2, BATCH, *image))
    for path, gradient in gradients(model, stack(variables), images).items():
        size = np.abs(gradient).max()
        if gradient.dtype != jnp.float32 or not 0 < size < np.inf:
            found.append(f"{'/'.join(path)} has a gradient of {size}, {gradient.dtype}")
    return found, len(params)


def tamed(path, leaf):
    """The factors of branches without normalisation are small, as they are at first."""
    return leaf * np.float32(0.1) if leaf.ndim == 0 and path[-1].key == "scale" else leaf


def main(patterns):
    names = [name for pattern in patterns or ["*"] for name in list_models(pattern)]
    wrong = 0
    for name in names:
        start = time.process_time()
        found, arrays = faults(name)
        wrong += bool(found)
        verdict = "; ".join(found[:5]) or f"ok, {arrays} arrays"
        print(f"{name}: {verdict} ({time.process_time() - start:.0f} s)", flush=True)
        jax.clear_caches()
    print(f"{len(names) - wrong} of {len(names)} networks are right")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
