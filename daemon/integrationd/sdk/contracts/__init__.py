"""The catalogue: one contract per operation, for all providers of a category alike."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from integrationd.sdk.contract import Contract
from integrationd.sdk.contracts import (
    billing,
    email,
    http,
    payment,
    push,
    sms,
    webhook,
    whatsapp,
)

__all__ = ["CATALOGUE", "catalogue_of", "contract_of"]


def catalogue_of(contracts: Iterable[Contract]) -> Mapping[str, Contract]:
    """Index contracts by their operation.

    Raises:
        ValueError: Two contracts are for the same operation.
    """
    found: dict[str, Contract] = {}
    for contract in contracts:
        if contract.operation in found:
            raise ValueError(f"two contracts for {contract.operation}")
        found[contract.operation] = contract
    return MappingProxyType(found)


CATALOGUE: Mapping[str, Contract] = catalogue_of(
    (
        *billing.CONTRACTS,
        *email.CONTRACTS,
        *http.CONTRACTS,
        *payment.CONTRACTS,
        *push.CONTRACTS,
        *sms.CONTRACTS,
        *webhook.CONTRACTS,
        *whatsapp.CONTRACTS,
    )
)


def contract_of(operation: str, declared: Contract | None = None) -> Contract:
    """Return the contract of an operation: the catalogue's, or the one that a plugin declares.

    Raises:
        ValueError: There is none, or the plugin's contradicts the catalogue or its own operation.
    """
    known = CATALOGUE.get(operation)
    if declared is None:
        if known is None:
            raise ValueError(
                f"{operation} is not in the catalogue ({', '.join(CATALOGUE)}); "
                "pass contract= to @operation"
            )
        return known
    if declared.operation != operation:
        raise ValueError(f"the contract passed for {operation} is for {declared.operation}")
    if known is not None and declared is not known:
        raise ValueError(f"{operation} has a contract in the catalogue; leave contract= out")
    return declared
