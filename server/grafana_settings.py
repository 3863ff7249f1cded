"""The settings about Grafana: a part of the table of :mod:`server.settings`, which has them all."""

from __future__ import annotations

from dataclasses import dataclass

from server.text.setting_values import address, between, flag, names, setting


@dataclass(frozen=True, kw_only=True)
class GrafanaSettings:
    """Which Grafana shows the dashboards, whose viewers are believed, and how long a panel may take."""

    grafana_url: str = setting(
        "OBSERVATORY_GRAFANA_URL",
        "",
        "root_url of the Grafana with the dashboards, to which answers to agents link. Empty: `GRAFANA_ISSUER`.",
        parse=address("https", "http"),
    )
    grafana_issuer: str = setting(
        "GRAFANA_ISSUER",
        "",
        "root_url of the Grafana whose X-Grafana-Id names the viewer. Empty: ignored.",
    )
    grafana_audience: tuple[str, ...] = setting(
        "GRAFANA_AUDIENCE", ("org:1",), "`aud` of X-Grafana-Id: the organizations whose viewers count.", parse=names
    )
    grafana_jwks_url: str = setting(
        "GRAFANA_JWKS_URL", "", "Keys of X-Grafana-Id. Empty: `/api/signing-keys/keys` under `GRAFANA_ISSUER`."
    )
    grafana_viewers_see_content: bool = setting(
        "GRAFANA_VIEWERS_SEE_CONTENT", True, "Whether Grafana's role Viewer may see prompts and answers.", parse=flag
    )
    grafana_timeout: float = setting(
        "OBSERVATORY_GRAFANA_TIMEOUT",
        25.0,
        "Longest time in seconds for one panel, waiting included; Grafana's own proxy gives up after 30.",
        parse=between(1, 300),
    )

    @property
    def dashboards_url(self) -> str:
        """The address of that Grafana without a trailing slash; empty where none is known."""
        return (self.grafana_url or self.grafana_issuer).rstrip("/")
