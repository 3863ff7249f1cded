"""The reference pages say what the tables in the code say."""

from __future__ import annotations

from pathlib import Path

from server.access.api_key import KEY_KINDS
from server.access.principal import SCOPES, Role
from server.access.rate_policy import TIERS
from server.http.guard import access_policy
from tests.access.test_route_matrix import ROUTES

DOCS = Path(__file__).parents[2] / "docs"
OURS = ("api/v1/keys", "api/v1/clients", "api/v1/projects", "api/v1/audit", "oauth/", ".well-known/")


def table(page: str, header: str) -> list[list[str]]:
    """Return the rows of the table under the line ``header``, cells without blanks around."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    start = lines.index(header) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_scopes_and_roles_are_those_of_the_table() -> None:
    header = "| Scope | Permits | " + " | ".join(Role) + " |"
    expected = [
        [f"`{name}`", rule.sentence, *("✓" if role in rule.roles else "" for role in Role)]
        for name, rule in SCOPES.items()
    ]
    assert table("reference/access.md", header) == expected


def test_tiers_are_those_of_the_table() -> None:
    rows = table("reference/rate-limits.md", "| Role | Requests a minute | Burst |")
    assert rows == [[str(role), str(tier.per_minute), str(tier.burst)] for role, tier in TIERS.items()]


def test_kinds_of_keys_are_those_of_the_table() -> None:
    rows = {row[0].strip("`"): row[2] for row in table("reference/access.md", "| Kind | For | Scopes at most |")}
    assert rows.keys() == KEY_KINDS.keys()
    for kind in ("ingest", "dashboard"):
        assert {name.strip("` ") for name in rows[kind].split(",")} == KEY_KINDS[kind].scopes


def test_every_route_about_access_is_described() -> None:
    text = (DOCS / "reference/access.md").read_text(encoding="utf-8")
    for route in ROUTES:
        if not route.path.startswith(OURS) or route.path.endswith("ingest-settings"):
            continue
        for method in route.methods - {"HEAD", "OPTIONS"}:
            path = "/" + route.path.replace(":str>", "}").replace("<", "{")
            assert f"`{method} {path}`" in text, f"{method} {path}"
            policy = access_policy(route.handler)
            if policy is not None and policy.scope is not None and "audit" not in path:
                row = next(line for line in text.splitlines() if f"`{method} {path}`" in line)
                assert f"`{policy.scope}`" in row
