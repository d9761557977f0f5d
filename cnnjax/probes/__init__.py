"""Measure a network that exists already, at initialisation or while it trains; depth is an axis."""
