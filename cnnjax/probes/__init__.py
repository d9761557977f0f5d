"""Measure a network that exists already, at initialisation or while it trains; depth is an axis."""

from cnnjax.probes.layers import LayerProbe, LayerStatistics, layer_statistics

__all__ = ["LayerProbe", "LayerStatistics", "layer_statistics"]
