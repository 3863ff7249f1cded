"""Tables of docs/reference/ingestion-mapping.md, rendered from the dialect files and the constants of the mapping."""

from __future__ import annotations

from dataclasses import fields

from server.ingest.dialects.attribute_table import detection_rules, dialect_tables, read_table
from server.ingest.mapping.mapping_result import IngestWindow, MappingLimits
from server.ingest.mapping.rejection import FIELD_REASONS, REASONS
from server.ingest.otlp.payload import DecodeLimits


def alias_table() -> str:
    """Return every slot with its attributes, first choice first, by dialect."""
    slots: dict[str, list[str]] = {}
    for table in dialect_tables():
        for slot, keys in table["columns"].items():
            indexed = [f"{prefix}.N.…" for prefix in table.get("indexed", {}).get(slot, ())]
            names = ", ".join(f"`{key}`" for key in [*indexed, *keys])
            slots.setdefault(slot, []).append(f"*{table['dialect']}*: {names}")
    rows = [f"| `{slot}` | {'<br>'.join(lines)} |" for slot, lines in sorted(slots.items())]
    return "\n".join(["| Slot | Attributes, first choice first |", "|---|---|", *rows])


def family_table() -> str:
    """Return the families of names: heads, and words by slot."""
    rows = ["| Of | Heads | Words by slot |", "|---|---|---|"]
    for family in read_table("families.json")["families"]:
        heads = ", ".join("any" if head == "*" else "none" if head == "" else f"`{head}`" for head in family["heads"])
        words = [
            f"`{slot}`: {', '.join(f'`{word}`' for word in names)}" for slot, names in family.get("words", {}).items()
        ]
        slots = [f"`{slot.replace('<medium>', 'MEDIUM')}`" for slot in family.get("patterns", {})]
        words += [f"{', '.join(slots)}: by pattern"] if slots else []
        rows.append(f"| {family['title']} | {heads} | {'<br>'.join(words)} |")
    return "\n".join(rows)


def dialect_table() -> str:
    """Return the detection rules in order."""
    rows = []
    for rule in detection_rules():
        signs = [f"`{key}`" for key in sorted(rule.keys)]
        signs += [f"`{prefix}…`" for prefix in rule.prefixes]
        signs += [f"scope `{scope}`" for scope in sorted(rule.scopes)]
        unless = f", unless {', '.join(f'`{key}`' for key in sorted(rule.unless))}" if rule.unless else ""
        rows.append(f"| `{rule.dialect}` | {', '.join(signs)}{unless} |")
    return "\n".join(["| Dialect | Any of |", "|---|---|", *rows])


def provider_table() -> str:
    """Canonical providers and their other names."""
    providers = read_table("providers.json")["providers"]
    rows = [f"| `{name}` | {', '.join(f'`{alias}`' for alias in aliases)} |" for name, aliases in providers.items()]
    return "\n".join(["| Provider | Also called |", "|---|---|", *rows])


def operation_table() -> str:
    """Canonical operations, what means them, and whether they count as a call."""
    table = read_table("operations.json")
    rows = [
        f"| `{name}` | {'yes' if name in table['generation'] else ''} | {', '.join(f'`{value}`' for value in values)} |"
        for name, values in table["operations"].items()
    ]
    return "\n".join(["| Operation | Counted | Values |", "|---|---|---|", *rows])


def limit_table() -> str:
    """Return the limits of decoding and mapping with their defaults."""
    rows = [
        f"| `{kind.__name__}.{item.name}` | {_shown(item.default)} |"
        for kind in (DecodeLimits, MappingLimits, IngestWindow)
        for item in fields(kind)
    ]
    return "\n".join(["| Limit | Default |", "|---|---|", *rows])


def _shown(default: object) -> str:
    if isinstance(default, int):
        return f"{default // 1024:,} KiB" if default % 1024 == 0 else f"{default:,}"
    return str(default).removesuffix(", 0:00:00")


def reason_table() -> str:
    """Return the reasons why spans are rejected and values not used."""
    rows = ["| Code | Of | Meaning |", "|---|---|---|"]
    rows += [f"| `{code}` | span or record | {text} |" for code, text in REASONS.items()]
    rows += [f"| `{code}` | value | {text} |" for code, text in FIELD_REASONS.items()]
    return "\n".join(rows)
