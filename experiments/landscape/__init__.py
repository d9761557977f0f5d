"""Landscape: is the loss around a residual net's minimum simpler than around a plain net's?

Li, Xu, Taylor, Studer and Goldstein 2018 (arXiv 1712.09913) draw the loss on planes through trained weights,
in random directions whose filters have the norms of the network's own. Around deep nets without shortcuts
they see a chaotic landscape, with shortcuts a convex one. Here are such lines and planes of plain and
residual nets, the spectrum of the Hessian at the minimum, and the plane in which training moved.

Two more questions belong to it. Are minima of large batches sharper (Keskar et al. 2017, arXiv 1609.04836),
at an equal number of epochs and of steps? And is there a way between the minima of two seeds (Garipov et al.
2018, arXiv 1802.10026) along which the loss stays low?
"""
