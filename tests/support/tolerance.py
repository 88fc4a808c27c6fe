"""How far two fp32 computations of the same may lie apart when they add in another order.

A sum of n terms errs by about eps·√n of their size (Higham, Accuracy and Stability of Numerical Algorithms, 4.2), more
or less with the width of the processor's vectors. A loss adds some hundred tokens; a gradient's norm adds every weight,
and Adam, which divides by the gradient's size, carries what it was off by through the steps.
"""

import math

_EPS = 2.0**-23
#: Of the tests' tiny model, rounded up; tokens of a batch; steps that a test looks at.
_WEIGHTS, _TOKENS, _STEPS = 40_000, 4_096, 5
_LOSS, _GRAD_NORM = _EPS * math.sqrt(_TOKENS), _EPS * math.sqrt(_WEIGHTS) * _STEPS  # 8e-6 and 1e-4


def of(metric: str) -> float:
    """For `pytest.approx`, of a logged metric: both of what it is and of its share."""
    return _GRAD_NORM if metric == "grad_norm" else _LOSS
