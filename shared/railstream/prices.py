"""What tokens cost, by the prices that the configs name; a model without a price costs nobody knows what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from railstream.config import ConfigSet
from railstream.config.serving import Price
from railstream.usage import Account, Totals

PER: Final = 1_000_000


def prices_of(root: Path | None) -> dict[str, Price]:
    """Prices by model name. Where two configs name the same model, the first one's hold."""
    configs = ConfigSet.load(root)
    found: dict[str, Price] = {}
    for id in configs.ids:
        for name, price in configs.get([id]).railstream.prices.items():
            found.setdefault(name, price)
    return found


def cost(totals: Totals, price: Price) -> float:
    """US dollars. Cached tokens are part of the input, and have a price of their own where one is given."""
    cached = price.input if price.cached_input is None else price.cached_input
    fresh = totals.input - totals.cached
    return (fresh * price.input + totals.cached * cached + totals.output * price.output) / PER


def estimated_cost(totals: Totals, price: Price) -> float:
    """US dollars of the calls that no provider has counted, by our estimate of their tokens."""
    return (totals.estimated_input * price.input + totals.estimated_output * price.output) / PER


def estimated_cost_of(ledger: Mapping[Account, Totals], prices: Mapping[str, Price]) -> float | None:
    """Of all accounts together; ``None`` when one of them that has such calls has no price."""
    uncounted = {account: totals for account, totals in ledger.items() if totals.uncounted}
    if any(account.model not in prices for account in uncounted):
        return None
    return sum(estimated_cost(totals, prices[account.model]) for account, totals in uncounted.items())


def cost_of(ledger: Mapping[Account, Totals], prices: Mapping[str, Price]) -> float | None:
    """Of all accounts together; ``None`` when one of them that used tokens has no price."""
    total = 0.0
    for account, totals in ledger.items():
        price = prices.get(account.model)
        if price is None:
            if totals.input or totals.output:
                return None
            continue
        total += cost(totals, price)
    return total
