"""Identity policies for tests: one for every project."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.identity.policy import IdentityPolicy, StoredPolicy


@dataclass
class FixedPolicies:
    """A PolicySource that stands still until it is set, and counts how often it was asked."""

    stored: StoredPolicy = field(default_factory=StoredPolicy)
    asked: int = 0

    def current(self, project: str) -> StoredPolicy:
        """The policy, whatever the project."""
        del project
        self.asked += 1
        return self.stored

    def set(self, policy: IdentityPolicy) -> None:
        """The next version."""
        self.stored = StoredPolicy(policy, self.stored.version + 1)
