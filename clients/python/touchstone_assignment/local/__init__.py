"""Decides inside a product, by rules that Touchstone sends and the disk remembers.

    service = Service("127.0.0.1:7701", key="...")
    with LocalAssignment(service, Settings(project="shop", folder=folder)) as local:
        local.wait_ready(5)
        answer = local.decide("new-checkout", {"user": "u1"}, default="control")

`TouchstoneProvider` stands before it in OpenFeature.
"""

from touchstone_events.settings import Service, Tls

from touchstone_assignment.local.answers import Answer, ParameterAnswer, Unanswered
from touchstone_assignment.local.assignment import LocalAssignment
from touchstone_assignment.local.settings import Settings
from touchstone_assignment.local.status import Change, Status

__all__ = [
    "Answer",
    "Change",
    "LocalAssignment",
    "ParameterAnswer",
    "Service",
    "Settings",
    "Status",
    "Tls",
    "Unanswered",
]
