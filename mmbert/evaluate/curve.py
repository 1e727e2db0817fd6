"""How much of what a model is better than chance is left as its inputs get worse, as one number."""

from collections.abc import Sequence

from mmbert.errors import NumericalError

CERTAIN = 2.0  # standard errors by which a score must be better than chance


def area(scores: Sequence[float], chance: float, *, error: float, lower_is_better: bool = False) -> float:
    """The mean over the rates above 0 of (P(r) - chance) / (P(0) - chance).

    1 where nothing is lost, 0 where all is. ``scores`` are P at rising rates, the first at rate 0; ``chance`` is the
    constant predictor's; ``error`` the standard error of P(0) - chance. Raises ``NumericalError`` where P(0) is not
    better than chance by more than two standard errors: the ratio would be one of noise.

    >>> area([0.9, 0.8, 0.6], 0.5, error=0.01)
    0.5
    """
    start, *rest = scores
    if not rest:
        raise ValueError("expected a score at a rate above 0, found none")
    gain = chance - start if lower_is_better else start - chance
    if not gain > CERTAIN * error:
        raise NumericalError(
            f"{start:.4g} without any change is not better than chance, {chance:.4g}, by more than {CERTAIN:g} "
            f"standard errors of {error:.2g}: an area would be one of noise"
        )
    return sum((one - chance) / (start - chance) for one in rest) / len(rest)
