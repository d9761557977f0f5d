"""Part of Fashion-MNIST (MIT licence, see LICENSE in this folder), drawn by `make.py` into `images.npz`."""
