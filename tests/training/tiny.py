"""A run that takes seconds, the same for several test files."""

import cnnjax
from cnnjax.data.synthetic import synthetic
from cnnjax.probes import LayerProbe

CONFIG = cnnjax.Config(
    model="resnet8",
    model_options={"width": 2, "stage_sizes": [1]},
    data="synthetic",
    augment="none",
    steps=4,
    batch_size=16,
    learning_rate=0.05,
    schedule="constant",
    evaluate_every=2,
    checkpoint_every=2,
)
DATA = synthetic(train=50, test=21, size=8)
IDENTITY = {"config": CONFIG.to_json(), "data": DATA.digest}
PROBE = LayerProbe(lambda step: True)  # always, so that there is one program to compile


def train(out, say=lambda line: None, config=CONFIG, data=DATA, **options):
    return cnnjax.train(config, out, say=say, data=data, **{"probes": PROBE, **options})


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
