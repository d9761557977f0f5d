"""Throughput: how long a training step takes, and what of the machine it uses.

Each network trains on random images in its own process, and so do those that it is compared with: the plain
Flax formulation (XLA's convolutions, no loop over depth) and PyTorch (eager or by `torch.compile`, channels
last). They take turns, A B A B, so that other load on the machine affects all of them equally; a ratio is the
median over the turns.
"""
