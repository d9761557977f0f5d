"""ResNet-8 of 4, 8 and 16 filters, shortcuts A, five times, in float64: each takes the weights of ours.

Every function takes the parameters of `cnnjax.build("resnet8", width=4, dtype="float64")`, flat by path, and
gives (model, variables) for `layer_statistics`. JAX must compute in float64.
"""

import equinox
import haiku
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

BLOCKS = ("stage1_block01", 4, 1), ("stage2_block01", 8, 2), ("stage3_block01", 16, 2)
"""Name, filters, stride."""


def shortcut(x, filters, channels_last=True):
    """Every other pixel and zeros as the new channels, where the shape changes."""
    if x.shape[-1 if channels_last else 0] == filters:
        return x
    if channels_last:
        x = x[:, ::2, ::2]
        return jnp.pad(x, [(0, 0)] * 3 + [(0, filters - x.shape[-1])])
    x = x[:, ::2, ::2]
    return jnp.pad(x, [(0, filters - x.shape[0]), (0, 0), (0, 0)])


def padding(stride):
    """One pixel of zeros around, also where a stride of 2 would leave it out on one side."""
    return [(1, 1), (1, 1)]


def as_function(params):
    def conv(x, name, stride=1):
        window = (stride, stride), padding(stride)
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, params_of(name, "kernel"), *window, dimension_numbers=numbers)

    def params_of(name, what):
        return current[f"{name}/{what}"]

    def norm(x, name):
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * params_of(name, "scale") + params_of(name, "bias")

    current = {}

    def net(params, x):
        current.update(params)
        x = jax.nn.relu(norm(conv(x, "conv1"), "bn1"))
        for block, filters, stride in BLOCKS:
            y = jax.nn.relu(norm(conv(x, f"{block}/conv1", stride), f"{block}/bn1"))
            y = norm(conv(y, f"{block}/conv2"), f"{block}/bn2")
            x = jax.nn.relu(shortcut(x, filters) + y)
        return x.mean((1, 2)) @ params["classifier/kernel"] + params["classifier/bias"]

    return net, params


FLOAT64 = {"dtype": jnp.float64, "param_dtype": jnp.float64}


class NNXBlock(nnx.Module):
    def __init__(self, inputs, filters, stride, rngs):
        options = {"use_bias": False, "rngs": rngs, "padding": padding(stride), **FLOAT64}
        self.conv1 = nnx.Conv(inputs, filters, (3, 3), stride, **options)
        self.bn1 = nnx.BatchNorm(filters, rngs=rngs, **FLOAT64)
        self.conv2 = nnx.Conv(filters, filters, (3, 3), **options)
        self.bn2 = nnx.BatchNorm(filters, rngs=rngs, **FLOAT64)

    def __call__(self, x):
        y = self.bn2(self.conv2(jax.nn.relu(self.bn1(self.conv1(x)))))
        return jax.nn.relu(shortcut(x, y.shape[-1]) + y)


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=rngs, **FLOAT64)
        self.bn1 = nnx.BatchNorm(4, rngs=rngs, **FLOAT64)
        inputs = 4
        for name, filters, stride in BLOCKS:
            setattr(self, name, NNXBlock(inputs, filters, stride, rngs))
            inputs = filters
        self.classifier = nnx.Linear(16, 10, rngs=rngs, **FLOAT64)

    def __call__(self, x):
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        for name, *_ in BLOCKS:
            x = getattr(self, name)(x)
        return self.classifier(x.mean((1, 2)))


def in_nnx(params):
    model = NNXNet(nnx.Rngs(0))
    weights = nnx.to_flat_state(nnx.state(model, nnx.Param))
    nnx.update(model, nnx.from_flat_state([(p, leaf.replace(params["/".join(p)])) for p, leaf in weights]))
    averages = nnx.state(model, nnx.BatchStat)  # float32 whatever `param_dtype` is
    nnx.update(model, jax.tree.map(lambda array: array.astype(jnp.float64), averages))
    return model, None


class EquinoxNet(equinox.Module):
    """For one image [channel, height, width]."""

    layers: dict

    def __init__(self, params):
        key = jax.random.key(0)
        self.layers = {}
        inputs = {"conv1": (3, 4, 1)}
        before = 4
        for block, filters, stride in BLOCKS:
            inputs |= {f"{block}/conv1": (before, filters, stride), f"{block}/conv2": (filters, filters, 1)}
            before = filters
        for name, (ins, outs, stride) in inputs.items():
            layer = equinox.nn.Conv2d(ins, outs, 3, stride, padding=1, use_bias=False, key=key)
            kernel = jnp.asarray(params[f"{name}/kernel"]).transpose(3, 2, 0, 1)
            self.layers[name] = equinox.tree_at(lambda layer: layer.weight, layer, kernel)
            bn = name.replace("conv", "bn")
            layer = equinox.nn.BatchNorm(outs, "batch", mode="batch")
            values = params[f"{bn}/scale"], params[f"{bn}/bias"]
            self.layers[bn] = equinox.tree_at(lambda layer: (layer.weight, layer.bias), layer, values)
        layer = equinox.nn.Linear(16, 10, key=key)
        values = jnp.asarray(params["classifier/kernel"]).T, params["classifier/bias"]
        self.layers["classifier"] = equinox.tree_at(lambda layer: (layer.weight, layer.bias), layer, values)

    def __call__(self, x, state):
        x = jnp.moveaxis(x, -1, 0)
        x, state = self.layers["bn1"](self.layers["conv1"](x), state)
        x = jax.nn.relu(x)
        for block, filters, _ in BLOCKS:
            y, state = self.layers[f"{block}/bn1"](self.layers[f"{block}/conv1"](x), state)
            y, state = self.layers[f"{block}/bn2"](self.layers[f"{block}/conv2"](jax.nn.relu(y)), state)
            x = jax.nn.relu(shortcut(x, filters, channels_last=False) + y)
        return self.layers["classifier"](x.mean((1, 2))), state


def in_equinox(params):
    return equinox.nn.make_with_state(EquinoxNet)(params), None


def in_haiku(params):
    def forward(x):
        def conv(x, name, filters, stride=1):
            layer = haiku.Conv2D(
                filters, 3, stride, padding=padding(stride), with_bias=False, name=name.replace("/", "__")
            )
            return layer(x)

        def norm(x, name):
            layer = haiku.BatchNorm(True, True, 0.9, name=name.replace("/", "__"))
            return layer(x, is_training=True)

        x = jax.nn.relu(norm(conv(x, "conv1", 4), "bn1"))
        for block, filters, stride in BLOCKS:
            y = jax.nn.relu(norm(conv(x, f"{block}/conv1", filters, stride), f"{block}/bn1"))
            y = norm(conv(y, f"{block}/conv2", filters), f"{block}/bn2")
            x = jax.nn.relu(shortcut(x, filters) + y)
        return haiku.Linear(10, name="classifier")(x.mean((1, 2)))

    model = haiku.transform_with_state(forward)
    shapes, state = model.init(jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
    names = {"w": "kernel", "b": "bias", "scale": "scale", "offset": "bias"}
    variables = {
        module: {
            leaf: jnp.asarray(params[module.replace("__", "/") + f"/{names[leaf]}"]).reshape(value.shape)
            for leaf, value in leaves.items()
        }
        for module, leaves in shapes.items()
    }
    return model, (variables, state)


def in_keras(params):
    """Built and called while Keras's `floatx` is float64."""
    import keras
    from keras import layers

    def conv(x, name, filters, stride=1):
        x = layers.ZeroPadding2D(1)(x)
        return layers.Conv2D(filters, 3, stride, use_bias=False, name=name.replace("/", "_"))(x)

    def norm(x, name):
        return layers.BatchNormalization(epsilon=1e-5, name=name.replace("/", "_"))(x)

    image = keras.Input((8, 8, 3))
    x = layers.ReLU()(norm(conv(image, "conv1", 4), "bn1"))
    for block, filters, stride in BLOCKS:
        y = layers.ReLU()(norm(conv(x, f"{block}/conv1", filters, stride), f"{block}/bn1"))
        y = norm(conv(y, f"{block}/conv2", filters), f"{block}/bn2")
        same = layers.Lambda(lambda x, filters=filters: shortcut(x, filters), output_shape=y.shape[1:])(x)
        x = layers.ReLU()(layers.Add()([same, y]))
    x = layers.Dense(10, name="classifier")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    names = {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias"}
    for variable in model.trainable_variables:
        layer, leaf = variable.path.split("/")
        block, _, rest = layer.rpartition("_")
        layer = f"{block}/{rest}" if block else rest
        variable.assign(np.asarray(params[f"{layer}/{names[leaf]}"]))
    return model, None


IN = {"function": as_function, "NNX": in_nnx, "Equinox": in_equinox, "Haiku": in_haiku, "Keras": in_keras}
