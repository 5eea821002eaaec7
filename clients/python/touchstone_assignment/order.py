"""The order in which things that need one another are compiled."""

from collections.abc import Callable, Iterable

MAX_DEPTH = 64
"""Each level is a call within a call when a decision is taken."""


def dependency_order(
    kind: str, names: Iterable[str], needs: Callable[[str], Iterable[str]]
) -> list[str]:
    """The names, each behind all that it needs; needs that are not among the names are left out.

    ValueError, naming them, when some need one another in a circle or deeper than MAX_DEPTH.
    """
    known = dict.fromkeys(names)
    depth: dict[str, int] = {}
    for name in known:
        path: dict[str, list[str]] = {}
        stack = [name]
        while stack:
            top = stack[-1]
            if top in depth:
                stack.pop()
                continue
            if top not in path:
                path[top] = [need for need in needs(top) if need in known]
            waiting = next((need for need in path[top] if need not in depth), None)
            if waiting is None:
                depth[top] = 1 + max((depth[need] for need in path[top]), default=0)
                _require_depth(kind, top, depth[top])
                del path[stack.pop()]
            elif waiting in path:
                circle = [*path][[*path].index(waiting) :]
                raise ValueError(
                    f"{kind} need one another in a circle: {' -> '.join([*circle, waiting])}"
                )
            else:
                stack.append(waiting)
    return [*depth]


def _require_depth(kind: str, name: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"{kind} need one another {depth} deep at {name!r}; at most {MAX_DEPTH}")
