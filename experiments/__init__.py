"""One question, one file: a list of configs, a probe and a figure. Run as `python -m experiments.NAME`."""
