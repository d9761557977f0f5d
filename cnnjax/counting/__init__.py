"""What a network costs and sees, layer by layer, from its trace: nothing is computed, nothing is tabulated.

The network is traced once, abstractly, as `init` runs it. A module that equals one before it, but for its
name, is not traced again: its rows are those of its twin. So a thousand blocks cost little more than two.

Counts are the papers': parameters are the trainable ones, multiply-adds those of convolutions and dense
layers for one image. Connections are LeCun et al.'s (1998, section II.B): every unit's inputs, its bias
included, for convolutions, dense layers and pooling. An output's receptive field is the square of pixels that
it can depend on, along the longest path: a window of k pixels whose inputs are j pixels apart adds (k - 1) j,
and its stride multiplies j, the total stride. Beyond the image's border it counts on.
"""

from cnnjax.counting.table import Layer, Summary, summary
from cnnjax.counting.walk import shape_text

__all__ = ["Layer", "Summary", "shape_text", "summary"]
