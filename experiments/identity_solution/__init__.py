"""Identity solution: the deep plain net has a good solution; does training find it, and does it stay there?

He, Zhang, Ren and Sun 2015 (arXiv 1512.03385, section 1) argue that a deeper net should not have a higher
training error, for there is a solution by construction: a trained shallower net, and layers that are the
identity. Their deep plain nets do have a higher one, so that training does not find that solution.

Here it is constructed, from a trained plain net and Dirac convolutions, and checked to compute the same. Then
both are trained further at several rates, and the deep net from scratch for as many steps in all.
"""
