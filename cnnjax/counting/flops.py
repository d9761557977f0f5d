"""Floating-point operations of a traced program: those of its convolutions and matrix products."""

import math
from collections import Counter
from typing import Any

from jax.extend.core import jaxprs_in_params


def flops(jaxpr: Any) -> Counter[str]:
    """Operations by the type of the operands; a product and a sum are two, the zeros of padding count.

    A loop counts as often as it runs, one whose end is not known before once. Zeros that a stride puts
    between the numbers of a gradient do not count: no good code multiplies by them.
    """
    found: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        params = equation.params
        times = params["length"] if equation.primitive.name == "scan" else 1
        inner = list(jaxprs_in_params(params))
        for one in inner:
            for dtype, number in flops(one).items():
                found[dtype] += times * number
        if not inner and (terms := _terms(equation)):
            found[equation.invars[0].aval.dtype.name] += 2 * terms
    return found


def _terms(equation: Any) -> int:
    """Products that an operation sums up."""
    name, params = equation.primitive.name, equation.params
    if name not in ("conv_general_dilated", "convolve", "kernel_gradient", "dot_general"):
        return 0
    left, right = (variable.aval.shape for variable in equation.invars)
    result = equation.outvars[0].aval.shape
    if name == "dot_general":
        return math.prod(result) * math.prod(left[axis] for axis in params["dimension_numbers"][0][0])
    if name == "conv_general_dilated":
        layout = params["dimension_numbers"].rhs_spec
        window = math.prod(right[axis] for axis in layout[1:])
        return math.prod(result) * window // math.prod(params["lhs_dilation"])
    kernel, outputs = (right, result) if name == "convolve" else (result, right)
    return math.prod(outputs) * math.prod(kernel[:3]) // math.prod(params["window"].input_dilation)
