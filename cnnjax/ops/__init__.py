"""The parts of networks that the papers need and Flax lacks or does differently."""
