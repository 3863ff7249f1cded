"""Which fields of an OTLP message hold messages and strings, by its descriptor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class MessageShape:
    """Field numbers of one type of message; all other fields are numbers or bytes."""

    messages: Mapping[int, Descriptor]
    """The type of each field that holds a message or a list of them."""
    strings: frozenset[int]


@cache
def shape_of(descriptor: Descriptor) -> MessageShape:
    """Return the shape of a type, as opentelemetry-proto generated it."""
    fields = descriptor.fields
    return MessageShape(
        {field.number: field.message_type for field in fields if field.message_type is not None},
        frozenset(field.number for field in fields if field.type == FieldDescriptor.TYPE_STRING),
    )


def descriptor_of(kind: type[Message]) -> Descriptor:
    """Return the descriptor of a type of message, whichever implementation of protobuf made it."""
    return cast(Descriptor, kind.DESCRIPTOR)
