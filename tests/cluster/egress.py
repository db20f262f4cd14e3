"""What a NetworkPolicy lets out, as the API defines it."""

from ipaddress import ip_address, ip_network

METADATA = ("169.254.169.254", "fd00:ec2::254")


def allows(policy, address, port, protocol="TCP"):
    """Whether a pod of the policy may reach an address outside of the cluster."""
    return any(
        _to(rule, ip_address(address)) and _through(rule, port, protocol) for rule in policy["spec"].get("egress", [])
    )


def _to(rule, address):
    peers = rule.get("to")
    return not peers or any(_holds(peer["ipBlock"], address) for peer in peers if "ipBlock" in peer)


def _holds(block, address):
    inside = address in ip_network(block["cidr"], strict=False)
    return inside and not any(address in ip_network(one) for one in block.get("except", []))


def _through(rule, port, protocol):
    ports = rule.get("ports")
    return not ports or any(one["port"] == port and one.get("protocol", "TCP") == protocol for one in ports)
