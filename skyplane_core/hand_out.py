"""What each gateway is told about a transfer: what its roles need, and no more. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from skyplane_core.coordinator.ways import onward, ways_of
from skyplane_core.model import AttributeRules, GatewayTransfer, TransferKeys
from skyplane_core.prepare import Prepared
from skyplane_core.spec import Route, Verification


def parcels(prepared: Prepared, routes: Sequence[Route], keys: TransferKeys | None) -> dict[str, GatewayTransfer]:
    """A parcel for each gateway on a route, by its id.

    A reader gets the source's credentials, a writer those of the destinations that it writes to and the rules for
    attributes, both the transfer's key. A relay gets where to pass batches on, no credentials, no key, and no metadata.
    The head, which is the first reader, alone gets the store of a receipt that is neither.

    Args:
        keys: None from a client that only renews credentials.
    """
    spec = prepared.spec
    ways = ways_of(routes)
    found = {}
    for gateway in dict.fromkeys(gateway for way in ways for gateway in way.gateways):
        reads = any(way.reader == gateway for way in ways)
        written = {route.destination for route in routes if route.writer == gateway}
        found[gateway] = GatewayTransfer(
            transfer_id=spec.transfer_id,
            keys=keys if reads or written else None,
            source=prepared.source if reads else None,
            destinations={index: prepared.destinations[index] for index in sorted(written)},
            compression=spec.options.compression,
            concurrency=spec.options.concurrency,
            keep_attributes=spec.options.keep_attributes,
            compare_source=spec.options.verify is not Verification.NONE,
            credentials_expire_at=prepared.credentials_expire_at,
            onward=onward(ways, gateway),
            receipt=prepared.receipt if gateway == ways[0].reader else None,
            rules=spec.options.attributes if written else AttributeRules(),
        )
    return found
