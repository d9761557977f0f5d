"""Divide a batch and the weights over all devices; without accelerators, over eight virtual ones."""

import jax

import cnnjax

CONFIG = cnnjax.Config(
    model="resnet8",
    model_options={"width": 16},
    data="fashion_mini",
    downsample=2,
    steps=20,
    batch_size=64,
    schedule="cosine",
    evaluate_every=20,
)

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    mesh = cnnjax.make_mesh(data=jax.device_count())
    print(cnnjax.train(CONFIG, "runs/scale_out", mesh=mesh, shard="fsdp"))
