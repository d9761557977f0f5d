"""Identity mappings: what happens when a shortcut is anything but the identity?

He, Zhang, Ren and Sun 2016 (arXiv 1603.05027) put scales, gates, a convolution or dropout on all shortcuts of
ResNet-110 (table 1), and try five orders of BatchNorm, ReLU and addition (table 2). If block l adds to
lambda_l times its input, and nothing follows the addition, then of the input of the first block the last one
gets the product of all lambda (equation 6), and so does the gradient on its way back (equation 7): with 0.5
in 54 blocks, nothing.

Here the variants are trained beside the published tables, and what comes along the shortcuts alone is
measured in each network, forward and backward, at initialisation and trained, beside that product.
"""
