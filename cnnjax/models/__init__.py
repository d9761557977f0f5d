"""The networks: one paper, one file. `build` makes them by name."""

from cnnjax.models import airbench as _airbench  # noqa: F401  (registers its names)
from cnnjax.models import alexnet as _alexnet  # noqa: F401  (registers its names)
from cnnjax.models import bn_inception as _bn_inception  # noqa: F401  (registers its names)
from cnnjax.models import cuda_convnet as _cuda_convnet  # noqa: F401  (registers its names)
from cnnjax.models import densenet as _densenet  # noqa: F401  (registers its names)
from cnnjax.models import fixup as _fixup  # noqa: F401  (registers its names)
from cnnjax.models import fractalnet as _fractalnet  # noqa: F401  (registers its names)
from cnnjax.models import googlenet as _googlenet  # noqa: F401  (registers its names)
from cnnjax.models import highway as _highway  # noqa: F401  (registers its names)
from cnnjax.models import inception_v3 as _inception_v3  # noqa: F401  (registers its names)
from cnnjax.models import lenet5 as _lenet5  # noqa: F401  (registers its names)
from cnnjax.models import looks_linear as _looks_linear  # noqa: F401  (registers its names)
from cnnjax.models import nin as _nin  # noqa: F401  (registers its names)
from cnnjax.models import preresnet as _preresnet  # noqa: F401  (registers its names)
from cnnjax.models import resnet as _resnet  # noqa: F401  (registers its names)
from cnnjax.models import resnext as _resnext  # noqa: F401  (registers its names)
from cnnjax.models import senet as _senet  # noqa: F401  (registers its names)
from cnnjax.models import stochastic_depth as _stochastic_depth  # noqa: F401  (registers its names)
from cnnjax.models import vgg as _vgg  # noqa: F401  (registers its names)
from cnnjax.models import wide_resnet as _wide_resnet  # noqa: F401  (registers its names)
from cnnjax.models import zfnet as _zfnet  # noqa: F401  (registers its names)
from cnnjax.models.registry import build, list_models, register
from cnnjax.models.surgery import fold, grow, inserted_blocks
from cnnjax.ops.depth import stack, stack_for_loop, unstack

__all__ = [
    "build",
    "fold",
    "grow",
    "inserted_blocks",
    "list_models",
    "register",
    "stack",
    "stack_for_loop",
    "unstack",
]
