"""A task of plain objects for tests of the training step."""

from cnnjax.config import Config
from cnnjax.losses import cross_entropy, error
from cnnjax.network import as_network
from cnnjax.training.task import Task


def make_task(model, optimizer, **parts):
    """Nothing is done to the images; the loss is the cross-entropy."""
    plain = {
        "config": Config(),
        "loss": cross_entropy,
        "metrics": {"error": error},
        "schedule": None,
        "data": None,
        "normalize": lambda images: images,
        "augment": lambda key, images, labels: (images, labels),
    }
    return Task(network=as_network(model), optimizer=lambda rate, decay: optimizer, **{**plain, **parts})
