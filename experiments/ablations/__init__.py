"""Ablations: what is each part of the classic networks and recipes worth?

The papers took parts away, or put others in their place, and printed the difference: AlexNet's response
normalisation, overlapping pooling, colours, towers and layers; VGG's small kernels; Inception's factorised
convolutions and smoothed labels; ResNeXt's groups at equal cost. Batch sizes at fixed budgets come besides.

Each arm differs from its base in the named fields alone, and is compared with it seed by seed: the mean
difference has Student's 95 % interval. What lies within it is no clear difference.
"""
