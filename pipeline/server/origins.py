"""Where somebody asks from, as far as limits go: whoever has an IPv6 address has a whole network of them."""

import ipaddress

_NETWORK_BITS = 64  # of IPv6, which one host is given at least


def origin_of(address: str) -> str:
    """What limits count by: an IPv4 address, the /64 of an IPv6 one, or the text where it is neither."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, _NETWORK_BITS), strict=False))
