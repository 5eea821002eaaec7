"""Conditions over a unit's attributes and ids: compiled once, exact, and typed."""

from touchstone_assignment.conditions.attribute_tests import Predicate
from touchstone_assignment.conditions.attribute_type import AttributeType
from touchstone_assignment.conditions.audiences import Audiences
from touchstone_assignment.conditions.compiler import predicate
from touchstone_assignment.conditions.faults import Fault, faults
from touchstone_assignment.conditions.id_set import IdSet

__all__ = ["AttributeType", "Audiences", "Fault", "IdSet", "Predicate", "faults", "predicate"]
