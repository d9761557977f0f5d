"""Throughput: how long a training step takes, and what of the machine it uses.

Each network trains on random images in a process of its own, beside those that it is compared with: the plain
Flax formulation (XLA's convolutions, no loop over depth) and PyTorch (eager, channels last). They take turns,
A B A B, so that what else the machine does falls on all alike; a ratio is the median over the turns.
"""
