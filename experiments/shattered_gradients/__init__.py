"""Shattered gradients: how similar are a network's gradients at different inputs, and what keeps them so?

Balduzzi et al. 2017, figures 1 and 2 and theorems 1 to 3: the deeper a feedforward net, the more its
gradients over inputs look like white noise; in a residual net with BatchNorm they stay closer to brown noise.

Reproductions have failed to find this, because it needs normalisation: without it the neurons of a deep net
become active for the same inputs, and the gradients stay similar. The feedforward nets here come without it,
with mean-centring alone and with BatchNorm.

`one_dimensional` draws derivatives of nets with one input and one output over a grid; `depth` compares
correlation and variance with theory on normal inputs; `convolutional` measures convolutional nets on images;
`looks_linear` shows that a looks-linear initialisation has no shattering at any depth, and trains deep nets
with and without it, beside residual nets with BatchNorm.

BatchNorm's statistics are frozen, constants for the derivative; in one dimension `--statistics batch`
differentiates them too, which couples the points of the grid.
"""
