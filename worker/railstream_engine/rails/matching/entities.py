"""Personal data and secrets that are found by their form and, where they have one, by their check digits.

Every form has a greatest length, so that what is held back is bounded. A form with digits only (a phone number, a
card) is anchored by its separators or its length: ten digits in a row alone are no phone number.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from railstream_engine.rails.matching.patterns import PatternSpec

_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IBAN_LENGTHS: Final[Mapping[str, int]] = MappingProxyType(
    {
        country: length
        for length, countries in {
            15: "NO",
            16: "BE",
            18: "DK FI FO GL NL SD FK",
            19: "MK SI",
            20: "AT BA EE KZ LT LU XK MN",
            21: "CH HR LI LV",
            22: "BG BH CR DE GB GE IE ME RS VA",
            23: "AE GI IL IQ OM TL SO",
            24: "AD CZ ES MD PK RO SA SE SK TN VG",
            25: "LY PT ST",
            26: "IS TR",
            27: "BI DJ FR GR IT MC MR SM",
            28: "AL AZ CY DO GT HU LB PL BY SV NI",
            29: "BR EG PS QA UA",
            30: "JO KW MU YE",
            31: "MT SC",
            32: "LC",
            33: "RU",
        }.items()
        for country in countries.split()
    }
)


def luhn(matched: str) -> int:
    """The whole match when its digits pass the Luhn check, and are not all the same."""
    digits = [int(character) for character in matched if character.isdecimal()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(matched) if total % 10 == 0 and len(set(digits)) > 1 else 0


def iban(matched: str) -> int:
    """As much of the match as its country's IBANs are long, when its check digits (ISO 7064, mod 97-10) are right."""
    wanted = _IBAN_LENGTHS.get(matched[:2], 0)
    end = taken = 0
    while end < len(matched) and taken < wanted:
        taken += matched[end].isalnum()
        end += 1
    if not wanted or taken < wanted or matched[end : end + 1].isalnum():
        return 0
    compact = matched[:end].replace(" ", "")
    digits = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return end if int(digits) % 97 == 1 else 0


def ipv6(matched: str) -> int:
    """The whole match when it is an address, and not `::` alone."""
    try:
        ipaddress.IPv6Address(matched)
    except ValueError:
        return 0
    return len(matched) if any(character.isdecimal() for character in matched) else 0


def international_phone(matched: str) -> int:
    """As many of its groups as have 8 to 15 digits together (E.164): another number may follow behind a space."""
    digits = best = 0
    for at, character in enumerate(matched):
        digits += character.isdecimal()
        if digits > 15:
            break
        ends = at + 1 == len(matched) or not (character.isdecimal() and matched[at + 1].isdecimal())
        if ends and digits >= 8 and character.isdecimal():
            best = at + 1
    return best


_KEYS: Final = (
    *(
        rf"(?<![A-Za-z0-9]){form}"
        for form in (
            r"sk-[A-Za-z0-9_-]{20,255}",
            r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,255}",
            r"gh[pousr]_[A-Za-z0-9]{36,255}",
            r"github_pat_[A-Za-z0-9_]{22,255}",
            r"glpat-[A-Za-z0-9_-]{20,64}",
            r"A(?:KIA|SIA)[0-9A-Z]{16}",
            r"AIza[0-9A-Za-z_-]{35}",
            r"xox[abeoprs]-[A-Za-z0-9-]{10,255}",
            r"nvapi-[A-Za-z0-9_-]{20,255}",
            r"hf_[A-Za-z0-9]{30,64}",
            r"gsk_[A-Za-z0-9]{40,128}",
            r"eyJ[A-Za-z0-9_-]{10,512}\.eyJ[A-Za-z0-9_-]{10,2048}\.[A-Za-z0-9_-]{10,1024}",
        )
    ),
    r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----[A-Za-z0-9+/=\s]{0,3900}"
    r"(?:-----END (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----)?",
)

_STARTS: Final = r"\d+(A-Z"  # of the forms of digits, and of IBANs

_FORMS: Final[Mapping[str, tuple[PatternSpec, ...]]] = MappingProxyType(
    {
        "email": (PatternSpec(r"[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,4}[^\W\d_]{2,24}"),),
        "phone": (
            PatternSpec(
                r"(?<![\w+])\+[1-9]\d{0,2}(?:[ .-]?(?:\(\d{1,4}\)|\d{1,12})){1,6}(?!\d)",
                accept=international_phone,
                starts=_STARTS,
            ),
            PatternSpec(
                r"(?<![\w+-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4}(?![\w-])", starts=_STARTS
            ),
        ),
        "card": (
            PatternSpec(r"(?<!\d)[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}(?!\d)", accept=luhn, starts=_STARTS),
            PatternSpec(r"(?<!\d)3[47]\d\d([ -])\d{6}\1\d{5}(?!\d)", accept=luhn, starts=_STARTS),
            PatternSpec(r"(?<!\d)3\d{3}([ -])\d{6}\1\d{4}(?!\d)", accept=luhn, starts=_STARTS),
            PatternSpec(r"(?<!\d)[2-6]\d{12,18}(?!\d)", accept=luhn, starts=_STARTS),
        ),
        "iban": (PatternSpec(r"(?<![A-Za-z0-9])[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}", accept=iban, starts=_STARTS),),
        "ssn": (PatternSpec(r"(?<![\d-])(?!000|666|9)\d{3}([ -])(?!00)\d\d\1(?!0000)\d{4}(?![\d-])", starts=_STARTS),),
        "ip": (
            PatternSpec(rf"(?<![\w.]){_OCTET}(?:\.{_OCTET}){{3}}(?!\w|\.\d)", starts=_STARTS),
            PatternSpec(
                r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:|:)(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])", accept=ipv6
            ),
        ),
        "api_key": tuple(PatternSpec(form) for form in _KEYS),
    }
)

ENTITIES: Final = frozenset(_FORMS)


def entity_patterns(entities: Iterable[str], mask_token: str) -> tuple[PatternSpec, ...]:
    """The forms of these entities, in their order; ``{entity}`` in the mask stands for the entity's name."""
    return tuple(
        replace(form, mask=mask_token.replace("{entity}", entity), vetted=True)
        for entity in entities
        for form in _FORMS[entity]
    )
