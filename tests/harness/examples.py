"""How many examples Hypothesis tries: few while one develops, the same ones each time in CI, very many in `make fuzz`.

``HYPOTHESIS_PROFILE`` names a profile. Without it, CI (the variable ``CI`` is set) takes ``ci``, which draws no random
examples: a build must not fail by chance. `make fuzz` draws new ones each time, and finds what CI cannot.
"""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, settings

USUAL = 100
"""Examples of a test that does not choose a number; a profile with more multiplies the number of those that do."""


def register_profiles() -> None:
    # Hypothesis makes its defaults deterministic where it sees a CI system: `derandomize` is given in each.
    slow = [HealthCheck.too_slow]
    settings.register_profile(
        "dev", max_examples=USUAL // 2, deadline=None, derandomize=False, suppress_health_check=slow
    )
    dev = settings.get_profile("dev")
    settings.register_profile("ci", parent=dev, max_examples=USUAL, derandomize=True, print_blob=True)
    settings.register_profile("fuzz", parent=dev, max_examples=20 * USUAL, print_blob=True)


def profile_name(environment: Mapping[str, str]) -> str:
    """The profile that these variables choose. CI systems set ``CI`` to ``true`` or ``1``."""
    return environment.get("HYPOTHESIS_PROFILE") or ("ci" if environment.get("CI") else "dev")


def examples(count: int) -> settings:
    """Settings of a test that chooses its number of examples; `make fuzz` multiplies it by twenty."""
    return settings(max_examples=count * max(1, settings().max_examples // USUAL))
