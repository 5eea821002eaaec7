"""IPv4 and IPv6 networks in CIDR notation."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

_CIDR = re.compile(r"[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}")
_MAPPED = IPv6Network("::ffff:0:0/96")


def read_network(text: object) -> Network:
    """The network; ValueError with what is allowed when this is none.

    One inside ::ffff:0:0/96 is the IPv4 network that it stands for.
    """
    if not isinstance(text, str) or _CIDR.fullmatch(text) is None:
        raise ValueError("a network in CIDR notation such as '10.0.0.0/8' or '2001:db8::/32'")
    try:
        found = ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError("an IPv4 network with /0 to /32 or an IPv6 network with /0 to /128") from (
            error
        )
    if ip_address(text.partition("/")[0]) != found.network_address:
        raise ValueError(f"no bits behind the prefix; did you mean '{found}'?")
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        address = int(found.network_address) & 0xFFFFFFFF
        return IPv4Network((address, found.prefixlen - 96))
    return found


def in_networks(networks: Iterable[Network]) -> Callable[[object], bool]:
    """Whether text is an address in one of them; an IPv4-mapped address is its IPv4 address.

    One look-up for each different length of prefix, however many networks there are.
    """
    by_length: dict[tuple[int, int], set[int]] = defaultdict(set)
    for network in networks:
        bits = network.max_prefixlen - network.prefixlen
        by_length[network.version, bits].add(int(network.network_address) >> bits)
    shifts = {
        version: tuple(
            (bits, frozenset(prefixes))
            for (of, bits), prefixes in sorted(by_length.items())
            if of == version
        )
        for version in (4, 6)
    }

    def test(value: object) -> bool:
        # A zone names an interface of one machine: no network holds it.
        if not isinstance(value, str) or "%" in value:
            return False
        try:
            address = ip_address(value)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        number = int(address)
        for bits, prefixes in shifts[address.version]:  # noqa: SIM110  a generator takes longer
            if number >> bits in prefixes:
                return True
        return False

    return test
