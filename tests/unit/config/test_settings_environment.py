"""The environment of a pod: variables that Kubernetes puts there for Services are no settings, and no errors."""

from __future__ import annotations

import pytest
from railstream.errors import ConfigurationError
from railstream.settings import PREFIX, GatewaySettings, UpSettings, is_service_link, load

SERVICES = ("", "GATEWAY_", "HTTP_", "REDIS_", "WORKER_PAGES_", "MY_9_")


def links(service: str) -> dict[str, str]:
    """What the kubelet sets for the Service ``railstream-<service>`` with a named and a plain port."""
    name = f"RAILSTREAM_{service}"
    return {
        f"{name}SERVICE_HOST": "10.96.0.12",
        f"{name}SERVICE_PORT": "8000",
        f"{name}SERVICE_PORT_HTTP": "8000",
        f"{name}PORT": "tcp://10.96.0.12:8000",
        f"{name}PORT_8000_TCP": "tcp://10.96.0.12:8000",
        f"{name}PORT_8000_TCP_PROTO": "tcp",
        f"{name}PORT_8000_TCP_PORT": "8000",
        f"{name}PORT_8000_TCP_ADDR": "10.96.0.12",
        f"{name}PORT_9000_UDP": "udp://10.96.0.12:9000",
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_beside_railstream_changes_nothing(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in links(service).items():
        monkeypatch.setenv(name, value)
    settings = load(UpSettings)
    assert settings.model_fields_set == set()
    assert (settings.port, settings.http_port) == (8000, None)


def test_a_port_that_is_a_number_is_a_setting_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in links("GATEWAY_").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAILSTREAM_PORT", "8080")
    assert load(GatewaySettings).port == 8080


def test_no_setting_looks_like_such_a_variable() -> None:
    assert not [name for name in UpSettings.model_fields if is_service_link(PREFIX + name.upper(), "8000")]


@pytest.mark.parametrize("name", ["RAILSTREAM_GATEWAY_PORT", "RAILSTREAM_SERVICE", "RAILSTREAM_PORT_TCP"])
def test_what_only_resembles_one_is_an_unknown_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8000")
    with pytest.raises(ConfigurationError, match=name):
        load(UpSettings)
