"""The door that a call came in through."""

from shared.security.caller import CALL


def current_door() -> str:
    """Service and RPC of the call being served, such as `EventsService/LogEvents`; empty outside
    of one.
    """
    call = CALL.get(None)
    return call.method.rpartition(".")[2].strip("/") if call else ""
