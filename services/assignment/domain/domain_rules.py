"""How domains stand within one another.

A layer may cut the units of a domain, and a domain holds slots of a layer: layer, domain, layer and
so on. Both name what they stand in when they are made and never change it, so that what is made
later can only stand in what was there before, and no circle can come about.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from services.assignment.domain.domain import Domain
from services.assignment.domain.layer import Layer
from services.assignment.domain.limits import LIMITS, Limits
from shared import errors


def enclosing(
    layer: Layer, domain_of: Callable[[str], Domain], layer_of: Callable[[str], Layer]
) -> Iterator[Domain]:
    """The domains that a layer stands in, the innermost first."""
    while layer.domain:
        domain = domain_of(layer.domain)
        yield domain
        layer = layer_of(domain.layer)


def require_reachable(layer_id: str, around: Iterable[Domain]) -> int:
    """How many domains there are around a layer.

    FAILED_PRECONDITION when one of them was released: no unit reaches the layer any more.
    """
    depth = 0
    for domain in around:
        depth += 1
        if domain.released:
            raise errors.wrong_state(
                f"domain {domain.resource_id}",
                "released",
                f"using layer {layer_id}, which no unit reaches any more,",
                "a layer of another domain, or of none",
            )
    return depth


def require_depth(depth: int, limits: Limits = LIMITS) -> None:
    """RESOURCE_EXHAUSTED when domains stand deeper in one another than is allowed."""
    if depth > limits.max_domain_depth:
        raise errors.limit_exceeded(
            "the number of domains within one another", depth, limits.max_domain_depth
        )


def layers_within(
    domain_id: str, layers: Mapping[str, Layer], domains: Mapping[str, Domain]
) -> list[Layer]:
    """The layers that cut the domain's units, also through domains within it."""
    within: list[Layer] = []
    inner = [domain_id]
    while inner:
        around = inner.pop()
        cut = [layer for layer in layers.values() if layer.domain == around]
        within += cut
        ids = {layer.layer_id for layer in cut}
        inner += [found.resource_id for found in domains.values() if found.layer in ids]
    return within
