"""Rails of this config. A flow `check prices` is served by the action `check_prices`; parameters come by name."""

import re

from railstream import Verdict, action, allow, block, rewrite

PRICE = re.compile(r"\$\d+")
LIST_PRICE = "$25"


@action()
def check_length(user_message: str) -> bool:
    """A bool is enough: False blocks."""
    return len(user_message) <= 2000


@action()
async def check_prices(text: str) -> Verdict:
    """A verdict says more: why it blocks, or what to say instead."""
    if "free" in text.lower():
        return block("we give nothing away")
    found = PRICE.findall(text)
    if any(price != LIST_PRICE for price in found):
        return rewrite(PRICE.sub(LIST_PRICE, text))
    return allow()
