"""Train an embedding with a loss of your own: images of one class attract each other (Khosla et al. 2020)."""

import jax
import jax.numpy as jnp

import cnnjax


def supervised_contrastive(embeddings, labels):
    """Embeddings [batch, dim] and labels [batch] to a loss for each example, [batch] (equation 2)."""
    z = embeddings / jnp.linalg.norm(embeddings + 1e-6, axis=1, keepdims=True)
    itself = jnp.eye(len(z), dtype=bool)
    logits = jnp.where(itself, -1e9, z @ z.T / 0.1)
    positive = (labels[:, None] == labels) & ~itself
    log_probability = jax.nn.log_softmax(logits)
    return -jnp.sum(positive * log_probability, 1) / jnp.maximum(1, positive.sum(1))


CONFIG = cnnjax.Config(
    model="resnet8",
    model_options={"width": 8, "num_classes": 32},  # an embedding in 32 dimensions
    data="fashion_mini",
    downsample=2,
    steps=200,
    schedule="cosine",
    evaluate_every=100,
)
OBJECTS = {"loss": supervised_contrastive}

if __name__ == "__main__":
    print(cnnjax.train(CONFIG, "runs/contrastive_loss", **OBJECTS))
