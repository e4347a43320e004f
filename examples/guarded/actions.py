"""The rail `no shouting` of config.yml: a function of the same name, with underscores."""

from railstream import Verdict, action, allow, block


@action()
async def no_shouting(user_message: str) -> Verdict:
    """Refuse a message that ends with an exclamation mark."""
    return block("please say it quietly") if user_message.rstrip().endswith("!") else allow()
