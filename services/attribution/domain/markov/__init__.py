"""Markov attribution: exact removal effects of channels and sequences at any order."""

from services.attribution.domain.markov.chain import ChainCounts, count_chain, largest_order
from services.attribution.domain.markov.effects import RemovalEffects
from services.attribution.domain.markov.first_order import (
    TransitionCounts,
    count_transitions,
    removal_effects,
)
from services.attribution.domain.markov.matrix import TransitionMatrix, transition_matrix
from services.attribution.domain.markov.orders import (
    Chance,
    OrderChoice,
    OrderFit,
    last_state_chances,
    select_order,
)
from services.attribution.domain.markov.path_credit import path_credit
from services.attribution.domain.markov.removal import (
    chain_removal_effects,
    joint_removal_effect,
)
from services.attribution.domain.markov.sequences import sequence_removal_effect

__all__ = [
    "ChainCounts",
    "Chance",
    "OrderChoice",
    "OrderFit",
    "RemovalEffects",
    "TransitionCounts",
    "TransitionMatrix",
    "chain_removal_effects",
    "count_chain",
    "count_transitions",
    "joint_removal_effect",
    "largest_order",
    "last_state_chances",
    "path_credit",
    "removal_effects",
    "select_order",
    "sequence_removal_effect",
    "transition_matrix",
]
