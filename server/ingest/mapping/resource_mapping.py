"""The resource and the scope of a group of spans, mapped once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.ingest.dialects.attribute_table import attribute_table
from server.ingest.dialects.scope_traits import NO_TRAITS, ScopeTraits, scope_traits
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.mapping.stored_attributes import store_attributes
from server.ingest.otlp.payload import DecodedResource, DecodedScope

_LONGEST_SCOPE = 100


@dataclass(slots=True)
class MappedResource:
    """The columns that a resource adds to each of its spans."""

    service_name: str | None
    service_version: str | None
    environment: str | None
    environment_key: str
    environment_rank: int
    attributes: dict[str, Any]
    dropped: dict[str, Any]


@dataclass(slots=True)
class MappedScope:
    """The instrumentation that made a group of spans."""

    name: str
    traits: ScopeTraits
    attributes: dict[str, Any]
    """What it adds to the attributes of each of its spans."""
    replaced: int
    dropped: dict[str, Any]


def map_scope(scope: DecodedScope, limits: MappingLimits) -> MappedScope:
    """Return what is known of the instrumentation by its name, and the attributes that name it."""
    fields = SpanFields()
    names = {"otel.scope.name": scope.name, "otel.scope.version": scope.version, "otel.schema_url": scope.schema_url}
    attributes = {key: fields.clean("attributes", name, limits.name) for key, name in names.items() if name}
    traits = scope_traits(scope.name) if len(scope.name) <= _LONGEST_SCOPE else NO_TRAITS
    return MappedScope(scope.name, traits, attributes, fields.replaced, fields.dropped)


def map_resource(resource: DecodedResource, limits: MappingLimits) -> MappedResource:
    """Return service, version and environment; all attributes stay in ``resource_attributes``."""
    fields = SpanFields()
    fields.collect(resource.attributes)
    environment = fields.take_text("environment", "environment", limits.name)
    environment_key = fields.sources.get("environment", "")
    attributes, _ = store_attributes(
        resource.attributes, fields, "attributes", limits.attribute, limits.attribute_count, limits
    )
    service_name = fields.take_text("service_name", "service_name", limits.name)
    service_version = fields.take_text("service_version", "service_version", limits.name)
    if resource.dropped_attributes_count:
        fields.dropped.setdefault("attributes", {})["dropped_by_sender"] = resource.dropped_attributes_count
    if fields.replaced:
        fields.dropped["characters"] = {"replaced": fields.replaced}
    return MappedResource(
        service_name,
        service_version,
        environment,
        environment_key,
        attribute_table()[environment_key].rank,
        attributes,
        fields.dropped,
    )
