"""What tokens cost, by the prices of the configs."""

from __future__ import annotations

from pathlib import Path

import pytest
from railstream.config.serving import Price
from railstream.prices import cost, cost_of, prices_of
from railstream.usage import Account, Totals

PRICE = Price(input=2, output=8, cached_input=0.5)


def test_cached_tokens_are_part_of_the_input_at_their_own_price() -> None:
    totals = Totals(input=1_000_000, cached=400_000, output=500_000, reasoning=100_000)
    assert cost(totals, PRICE) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.5 * 8)
    assert cost(totals, Price(input=2, output=8)) == pytest.approx(2 + 4)


def test_a_model_without_a_price_makes_the_sum_unknown_unless_it_used_nothing() -> None:
    priced, free = Account("a", "", "general"), Account("b", "", "general")
    used = Totals(input=1_000_000)
    assert cost_of({priced: used}, {"a": PRICE}) == pytest.approx(2)
    assert cost_of({priced: used, free: used}, {"a": PRICE}) is None
    assert cost_of({priced: used, free: Totals(calls=1)}, {"a": PRICE}) == pytest.approx(2)


def test_prices_are_those_of_the_configs(tmp_path: Path) -> None:
    models = "models: [{type: main, engine: openai, model: m}]\n"
    for name, price in (("a", 1), ("b", 3)):
        (tmp_path / name).mkdir()
        prices = f"railstream: {{prices: {{m: {{input: {price}, output: 2}}}}}}\n"
        (tmp_path / name / "config.yml").write_text(models + prices, encoding="utf-8")
    assert prices_of(tmp_path)["m"].input == 1
    assert prices_of(None) == {}
