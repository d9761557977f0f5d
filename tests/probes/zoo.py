"""Small networks of many kinds, in Flax Linen, and what their layers are."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class ViT(nn.Module):
    """Patches, a position embedding, two blocks with attention (Dosovitskiy et al. 2020, 2010.11929)."""

    width: int = 8
    dtype: type = jnp.float64

    @nn.compact
    def __call__(self, x):
        dense = {"param_dtype": self.dtype, "dtype": self.dtype}
        x = nn.Conv(self.width, (4, 4), (4, 4), name="patches", **dense)(x)
        x = x.reshape(len(x), -1, self.width)
        x = x + self.param("position", nn.initializers.normal(0.02), (1, *x.shape[1:]), self.dtype)
        for number in range(2):
            y = nn.LayerNorm(name=f"norm{number}a", **dense)(x)
            x = x + nn.MultiHeadDotProductAttention(2, name=f"attention{number}", **dense)(y)
            y = nn.LayerNorm(name=f"norm{number}b", **dense)(x)
            y = nn.gelu(nn.Dense(2 * self.width, name=f"mlp{number}_in", **dense)(y))
            x = x + nn.Dense(self.width, name=f"mlp{number}_out", **dense)(y)
        return nn.Dense(5, name="head", **dense)(x.mean(1))


ATTENTION = ("query", "key", "value", "out")
VIT = (
    "patches",
    *(f"attention0/{name}" for name in ATTENTION), "mlp0_in", "mlp0_out",
    *(f"attention1/{name}" for name in ATTENTION), "mlp1_in", "mlp1_out",
    "head",
)  # fmt: skip


class ConvNeXt(nn.Module):
    """Depthwise convolutions, LayerNorm and layer scale (Liu et al. 2022, arXiv 2201.03545, figure 4)."""

    width: int = 4
    dtype: type = jnp.float64

    @nn.compact
    def __call__(self, x):
        dense = {"param_dtype": self.dtype, "dtype": self.dtype}
        x = nn.Conv(self.width, (2, 2), (2, 2), name="stem", **dense)(x)
        for number in range(2):
            y = nn.Conv(
                self.width, (7, 7), feature_group_count=self.width, name=f"depthwise{number}", **dense
            )(x)
            y = nn.LayerNorm(name=f"norm{number}", **dense)(y)
            y = nn.Dense(4 * self.width, name=f"expand{number}", **dense)(y)
            y = nn.Dense(self.width, name=f"reduce{number}", **dense)(nn.gelu(y))
            scale = self.param(f"scale{number}", nn.initializers.constant(0.5), (self.width,), self.dtype)
            x = x + scale * y
        return nn.Dense(5, name="head", **dense)(x.mean((1, 2)))


CONVNEXT = ("stem", "depthwise0", "expand0", "reduce0", "depthwise1", "expand1", "reduce1", "head")


class Mixer(nn.Module):
    """MLPs over patches and over channels in turn (Tolstikhin et al. 2021, arXiv 2105.01601)."""

    width: int = 6
    dtype: type = jnp.float64

    @nn.compact
    def __call__(self, x):
        dense = {"param_dtype": self.dtype, "dtype": self.dtype}
        x = nn.Conv(self.width, (4, 4), (4, 4), name="patches", **dense)(x).reshape(len(x), 4, self.width)
        y = nn.LayerNorm(name="norm1", **dense)(x).swapaxes(1, 2)
        y = nn.Dense(4, name="tokens_out", **dense)(nn.gelu(nn.Dense(8, name="tokens_in", **dense)(y)))
        x = x + y.swapaxes(1, 2)
        y = nn.LayerNorm(name="norm2", **dense)(x)
        y = nn.gelu(nn.Dense(8, name="channels_in", **dense)(y))
        x = x + nn.Dense(self.width, name="channels_out", **dense)(y)
        return nn.Dense(5, name="head", **dense)(x.mean(1))


MIXER = ("patches", "tokens_in", "tokens_out", "channels_in", "channels_out", "head")


class UNet(nn.Module):
    """Down by strides, up by transposed convolutions, and over the bridge (Ronneberger et al. 2015)."""

    width: int = 4
    dtype: type = jnp.float64

    @nn.compact
    def __call__(self, x):
        dense = {"param_dtype": self.dtype, "dtype": self.dtype}
        fine = nn.relu(nn.Conv(self.width, (3, 3), name="fine", **dense)(x))
        coarse = nn.relu(nn.Conv(2 * self.width, (3, 3), (2, 2), name="down", **dense)(fine))
        coarse = nn.relu(nn.Conv(2 * self.width, (3, 3), name="bottom", **dense)(coarse))
        up = nn.ConvTranspose(self.width, (2, 2), (2, 2), name="up", **dense)(coarse)
        x = nn.relu(nn.Conv(self.width, (3, 3), name="merge", **dense)(jnp.concatenate([fine, up], -1)))
        return nn.Conv(5, (1, 1), name="head", **dense)(x).mean((1, 2))


UNET = ("fine", "down", "bottom", "up", "merge", "head")
NETS = {
    "vit": (ViT(), VIT),
    "convnext": (ConvNeXt(), CONVNEXT),
    "mixer": (Mixer(), MIXER),
    "unet": (UNet(), UNET),
}


def by_interception(model, variables, batch, loss):
    """The layers' RMS and gradient norms on a second path: Flax shows each layer, and zeros are added."""
    inputs, labels = batch
    kinds = (nn.Conv, nn.ConvTranspose, nn.Dense, nn.DenseGeneral)

    def run(variables, noise):
        seen = {}

        def show(call, args, kwargs, context):
            result = call(*args, **kwargs)
            if context.method_name == "__call__" and isinstance(context.module, kinds):
                name = "/".join(context.module.path)
                result = result + noise.get(name, 0)
                seen[name] = result
            return result

        with nn.intercept_methods(show):
            outputs = model.apply(variables, inputs)
        return loss(outputs, labels).mean(), seen

    _, seen = jax.eval_shape(run, variables, {})
    noise = {name: jnp.zeros(z.shape, z.dtype) for name, z in seen.items()}
    gradients, seen = jax.grad(run, 1, has_aux=True)(variables, noise)
    rms = {name: jnp.sqrt(jnp.mean(jnp.square(z))) for name, z in seen.items()}
    return rms, {name: jnp.linalg.norm(jnp.ravel(g)) for name, g in gradients.items()}
