"""Access rules, read from the contracts: an RPC without a rule is denied to everyone."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor
from touchstone.common.v1 import rpc_pb2

from shared.security.caller import Role

# The standard services of every server: they show the contracts and the state of the process,
# which are no secret, to load balancers that hold no key.
PUBLIC = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call an RPC and how it is treated: touchstone.common.v1.RpcRule, parsed."""

    roles: frozenset[Role]
    any_role: bool
    mutation: bool
    per_item: str
    max_duration_s: float | None
    handler_validates: bool = False
    handler_parses: bool = False
    """Whether the handler is given the bytes: decoded as a whole, a request of a contract that
    bounds nothing may take a hundred times its size.
    """
    watch: bool = False
    """Whether it is a stream without an end of its own."""

    def admits(self, roles: frozenset[Role]) -> bool:
        """Whether a caller with these roles may call."""
        return self.any_role or bool(self.roles & roles)


def rule_of(descriptor: MethodDescriptor) -> Rule | None:
    """The rule that a contract gives an RPC, or None."""
    options = descriptor.GetOptions()
    if not options.HasExtension(rpc_pb2.rule):
        return None
    rule = options.Extensions[rpc_pb2.rule]
    return Rule(
        roles=frozenset(Role(role) for role in rule.roles),
        any_role=rule.any_role,
        mutation=rule.mutation,
        per_item=rule.per_item,
        max_duration_s=rule.max_duration_ms / 1000 or None,
        handler_validates=rule.handler_validates,
        watch=rule.watch,
    )
