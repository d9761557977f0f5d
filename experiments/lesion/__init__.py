"""Lesion: what does a trained network lose without one of its blocks, or with its blocks in another order?

Veit, Wilber and Belongie 2016 (arXiv 1605.06431, figures 3 to 5) delete single layers of a trained VGG and
single blocks of a trained residual net, without training it again. VGG falls to chance, the residual net
hardly changes: it is many paths of different lengths, of which a block is in half.

Their VGG has no BatchNorm, so it is no fair control: here a plain net with BatchNorm is beside it. And what a
network loses has two parts. BatchNorm's averages are those of the whole network, so a damaged one is tested
twice: with the averages as trained, and with averages estimated anew from training images.
"""
