"""Accuracy control: leave the fewest operators float that bring the metric inside the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["fewest_float"]


def fewest_float(
    ranked: Sequence[str],
    inside: Callable[[frozenset[str]], bool],
    out_of_time: Callable[[], bool],
) -> tuple[frozenset[str], bool]:
    """The smallest set of operators to leave float that ranked search finds.

    The operators are tried from the most sensitive on: doubling steps and bisection find how many
    of the first are needed, then each of them, the least sensitive first, is taken out again if
    the budget still holds without it.

    Args:
        ranked: names of the quantized operators, the most sensitive first.
        inside: whether the metric is inside the budget with these operators float.
        out_of_time: asked before every try; once True, the best so far is returned.

    Returns:
        The set, and whether the budget holds with it. When it does not hold with any number that
        was tried, the set is that of all operators tried.
    """
    if inside(frozenset()):
        return frozenset(), True
    enough, held = _first_enough(ranked, inside, out_of_time)
    if not held:
        return frozenset(ranked[:enough]), False
    kept = list(ranked[:enough])
    for name in reversed(kept[:-1]):
        if out_of_time():
            break
        without = [other for other in kept if other != name]
        if inside(frozenset(without)):
            kept = without
    return frozenset(kept), True


def _first_enough(
    ranked: Sequence[str],
    inside: Callable[[frozenset[str]], bool],
    out_of_time: Callable[[], bool],
) -> tuple[int, bool]:
    """How many of the first operators suffice, or how many were tried when no number did."""
    low, high = 0, min(1, len(ranked))
    while low < len(ranked):
        if out_of_time():
            return low, False
        if inside(frozenset(ranked[:high])):
            break
        low, high = high, min(2 * high, len(ranked))
    else:
        return low, False
    while high - low > 1 and not out_of_time():
        middle = (low + high) // 2
        if inside(frozenset(ranked[:middle])):
            high = middle
        else:
            low = middle
    return high, True
