"""Degradation's causes: which remedies train a deep plain net, and what do they say of the cause?

He, Zhang, Ren and Sun 2015 (arXiv 1512.03385, section 4.1) argue that the difficulty of their deep plain nets
"is unlikely to be caused by vanishing gradients", for BatchNorm keeps the signals alive both ways, and
conjecture "exponentially low convergence rates". Balduzzi et al. 2017 (arXiv 1702.08591) say: gradients
shatter, and looks-linear weights train as deep without shortcuts. Xiao et al. 2018 (arXiv 1806.05393) train
10,000 layers without BatchNorm or shortcuts, by delta-orthogonal weights and tanh. And BatchNorm makes the
first gradients explode towards the input, which freezes the first layers in one step.

Each explanation has its remedy. Here a deep plain net is trained with one remedy at a time, beside a shallow
one, and beside nets with shortcuts, which are controls: they are no plain nets any more. With each come the
gradients of its first steps, and what `cnnjax.diagnose` says before it is trained.
"""
