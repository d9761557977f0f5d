"""Paths: along which of its paths does a residual network's gradient come?

Veit, Wilber and Belongie 2016 (arXiv 1605.06431, figures 6 and 7): a net of n blocks is 2^n paths. Most have
a length of about n / 2, but the gradient along a single path falls exponentially with its length, so that the
paths that matter are short: in ResNet-110, with 54 blocks, 5 to 17. And it trains as well if only such short
paths are there in each step.

Here the gradient that all paths of a length bring together is computed too, exactly: they do not all point
the same way, so it is not the norm of one times their number.
"""
