"""Names and numbers of messages in the words of people."""

from google.protobuf.message import Message
from touchstone.results.v1 import results_pb2 as pb

SMALLEST_TOLD = 0.0001


def enum_word(message: Message, field: str) -> str:
    """The value of an enumeration without the prefix that its name repeats, in lower case."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert enum is not None, "the field is of an enumeration"
    names = [value.name for value in enum.values]
    prefix = names[0].removesuffix("UNSPECIFIED")
    name: str = enum.values_by_number[getattr(message, field)].name
    return "" if name == names[0] else name.removeprefix(prefix).lower()


def last_part(name: str) -> str:
    """The id of a resource name."""
    return name.rsplit("/", 1)[-1]


def p_value_words(estimate: pb.Estimate) -> str:
    """A p-value with three digits, or that it is below what digits are worth reading: the JSON has
    all of them. HTML.
    """
    if estimate.WhichOneof("result") != "value":
        return enum_word(estimate, "not_estimable").replace("_", " ")
    if estimate.value < SMALLEST_TOLD:
        return f"&lt;{SMALLEST_TOLD:.4f}"
    return f"{estimate.value:.3g}"


def equals(estimate: pb.Estimate) -> str:
    """The same behind the name of a p-value: `= 0.0312`, `&lt; 0.0001`."""
    words = p_value_words(estimate)
    return words.replace("&lt;", "&lt; ") if words.startswith("&lt;") else f"= {words}"


def estimate_or_reason(estimate: pb.Estimate) -> str:
    """The number in full, or why there is none."""
    if estimate.WhichOneof("result") == "value":
        return repr(estimate.value)
    return enum_word(estimate, "not_estimable")
