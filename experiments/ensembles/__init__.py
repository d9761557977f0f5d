"""Ensembles: what do several nets have that one has not, and is a residual net an ensemble in itself?

Nets that differ in their seed are averaged: their probabilities, and the class is the largest mean. Beside
this true ensemble are two that cost the training of one net: the last checkpoints of one run (Huang et al.
2017, who also let the rate go up and down, which is not done here), and the paths of a residual net. Veit,
Wilber and Belongie 2016 read it as an ensemble of 2^n paths through its n blocks: each deleted block leaves
half of them. Is that like an ensemble with half of its members?
"""
