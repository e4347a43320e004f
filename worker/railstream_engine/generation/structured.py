"""Whether a request asks for an answer in a form that a program reads: prose in its place would be an error there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FORMS: Final = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "ebnf")
"""Options of self-hosted servers that bind the answer to a form."""


def asks_for_structure(params: Mapping[str, Any]) -> bool:
    form = params.get("response_format")
    if isinstance(form, Mapping) and form.get("type") not in (None, "text"):
        return True
    choice = params.get("tool_choice")
    forced = choice == "required" or isinstance(choice, Mapping)
    return forced or any(params.get(name) is not None for name in FORMS)
