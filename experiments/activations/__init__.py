"""Activations: how much faster does a net train with ReLU than with tanh or sigmoid, and with BatchNorm?

Krizhevsky, Sutskever and Hinton 2012 (figure 1): on CIFAR-10 a net of four layers has 25 % training error
six times sooner with ReLU than with tanh, each at the rate that makes it fastest, without regularisation.
Here are seven activations: without BatchNorm, with it before the activation (Ioffe and Szegedy 2015), and
after it.

A sigmoid's slope is at most 1/4, so it costs a deep net most of its gradient in every layer. What each
activation does to the gradient is measured at initialisation in a stack of 20 wide layers, beside theory.
"""
