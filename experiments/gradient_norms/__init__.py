"""Gradient norms: what gradient reaches each layer of a deep net, at initialisation and in the first steps?

He et al. 2015 observe that the gradients of plain nets with BatchNorm "exhibit healthy norms" and so cannot
be why depth fails. Mean-field theory (Yang et al. 2019) says that at initialisation they grow by 1.21 in norm
with every BatchNorm-ReLU layer on the way back, 30,000-fold in 54 layers. Both are right: the explosion is
there at step 0 and gone after a single step.

`init` measures families of nets at initialisation and compares them with theory; `training` measures plain
and residual nets inside their training steps, 0, 1, 2, 5, 10, 20, ...
"""
