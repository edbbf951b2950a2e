"""Weights by zone: {"zones": {"zone-a": 3, "zone-b": 1}, "default": 1}. A weight of 0 drains a zone.

The same policy stands beside this one in other languages.
"""

import json
from dataclasses import dataclass, field

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.about import Info, Inputs, Problem
from wit_world.exports.balancer import IndexFunction, Share_Weights, Spread
from wit_world.imports.types import PolicyError_InvalidSettings


@dataclass
class Settings:
    """What a Service may set."""

    zones: dict[str, int] = field(default_factory=dict)
    default: int = 1


class SettingsError(Exception):
    """A problem with one field of the settings."""

    def __init__(self, path: str, message: str):
        super().__init__(f"{path}: {message}" if path else message)
        self.problem = Problem(path, message)


def weight(path: str, value: object) -> int:
    """A weight, or an error about the field at `path`."""
    # A bool is an int to Python, but not to JSON.
    if type(value) is int and 0 <= value <= 1000:
        return value
    raise SettingsError(path, "expected a whole number from 0 to 1000")


def read(text: str) -> Settings:
    """Reads settings; none means that every zone counts the same.

    A typing error shall not pass for a setting, so unknown fields are refused.
    """
    settings = Settings()
    if not text:
        return settings
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise SettingsError("", "expected a JSON object")
    for name, value in fields.items():
        if name == "default":
            settings.default = weight("default", value)
        elif name == "zones":
            if not isinstance(value, dict):
                raise SettingsError("zones", "expected an object of weights by zone")
            settings.zones = {zone: weight(f"zones.{zone}", figure) for zone, figure in value.items()}
        else:
            raise SettingsError(name, "unknown field; known are zones and default")
    return settings


class About(exports.About):
    def describe(self) -> Info:
        return Info(
            name="by-zone",
            version="0.1.0",
            summary="Connections in proportion to weights of zones.",
            licence="Apache-2.0",
            # Names of zones are always there for those who ask the view; no column is needed.
            inputs=Inputs.NAMES,
        )

    def check(self, settings: str) -> list[Problem]:
        try:
            read(settings)
            return []
        except SettingsError as error:
            return [error.problem]


class Balancer(exports.Balancer):
    def balance(self, view, rings, members) -> list[Spread]:
        try:
            return [spread(view, ring) for ring in rings]
        except SettingsError as error:
            raise Err(PolicyError_InvalidSettings(str(error)))


def spread(view, ring) -> Spread:
    """Decides one ring. Positions are those within the ring."""
    settings = read(view.settings(ring.id))
    zones = [view.endpoint_zone(ring.id, endpoint) for endpoint in range(ring.count)]
    known = sum(zone in settings.zones for zone in zones)
    return Spread(
        id=ring.id,
        index=IndexFunction.RANDOM,
        share=Share_Weights([settings.zones.get(zone, settings.default) for zone in zones]),
        affinity_seconds=ring.affinity_seconds,
        again_seconds=0,
        reason=f"{known} of {ring.count} endpoints in zones with weights",
    )
