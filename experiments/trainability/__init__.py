"""Trainability: what tells, on one batch and before training, whether a network will train?

Networks of many families (depths, activations, initialisations, normalisations, learning rates) are examined
at initialisation and after 1, 2, 5 and 10 steps, then trained for 300 steps. One counts as trained if it
reaches half of chance's loss. Each statistic is ranked by its correlation with the training loss and by its
AUC for "trained"; a logistic regression of a few of them is tested on the families that it was not fitted to.

Its coefficients, fitted to all families, are what `cnnjax.diagnose` goes by, and its hits on families held
out are what `diagnose` reports.
"""
