"""Templates of messages about alerts, for Slack and e-mail, in Go's text/template: for Grafana and for Alertmanager.

A contact point or receiver uses them by name: ``{{ template "llm.slack.text" . }}``. They read what the alert pack
writes: ``summary`` names the fault, ``description`` the remedy, and links lead to panel, runbook and silence. A label
may contain text of applications, so Slack's three special characters are escaped.

In Grafana an alert has links to its panel and to the form for a silence. Alertmanager has neither, and refuses a
template that asks for them: there the rule brings the address of the panel, and labels find the form.
"""

from __future__ import annotations

from typing import Final

TEMPLATE_NAME: Final = "llm-observatory"

_COUNTS: Final = """{{ define "llm.counts" -}}
{{ with .Alerts.Firing }}{{ len . }} firing{{ end -}}
{{ if and .Alerts.Firing .Alerts.Resolved }}, {{ end -}}
{{ with .Alerts.Resolved }}{{ len . }} resolved{{ end -}}
{{ end }}

{{ define "llm.name" }}{{ with .CommonLabels.alertname }}{{ . }}{{ else }}LLM alerts{{ end }}{{ end }}
"""

_SLACK: Final = """{{ define "llm.slack.plain" }}{{ . | reReplaceAll "&" "&amp;" | reReplaceAll "<" "&lt;" | \
reReplaceAll ">" "&gt;" }}{{ end }}

{{ define "llm.slack.title" -}}
{{ if .Alerts.Firing }}:rotating_light:{{ else }}:white_check_mark:{{ end }} {{ template "llm.name" . }} \
({{ template "llm.counts" . }})
{{- end }}

{{ define "llm.slack.alert" -}}
*{{ template "llm.slack.plain" .Annotations.summary }}*{{ with .Labels.severity }} ({{ . }}){{ end }}
{{ with .Annotations.description }}{{ template "llm.slack.plain" . }}
{{ end }}
{{- with PANEL }}<{{ . }}|Panel>  {{ end }}
{{- with .Annotations.runbook_url }}<{{ . }}|What to do>  {{ end }}
{{- end }}

{{ define "llm.slack.text" -}}
{{ range .Alerts.Firing }}{{ template "llm.slack.alert" . }}{{ with SILENCE }}<FORM|Silence>{{ end }}

{{ end }}
{{- range .Alerts.Resolved }}Resolved after {{ .EndsAt.Sub .StartsAt }}: \
{{ template "llm.slack.plain" .Annotations.summary }}
{{ end }}
{{- end }}
"""

_EMAIL: Final = """{{ define "llm.email.subject" -}}
[LLM] {{ template "llm.name" . }}: {{ template "llm.counts" . }}
{{- with .CommonLabels.project }} in {{ . }}{{ end }}
{{- end }}

{{ define "llm.email.message" -}}
{{ range .Alerts.Firing -}}
{{ .Annotations.summary }}
{{ with .Annotations.description }}{{ . }}
{{ end }}
{{- with .Labels.severity }}Severity: {{ . }}
{{ end }}Since: {{ .StartsAt.Format "2006-01-02 15:04 MST" }}
{{ with PANEL }}Panel: {{ . }}
{{ end }}
{{- with .Annotations.runbook_url }}What to do: {{ . }}
{{ end }}
{{- with SILENCE }}Silence: FORM
{{ end }}
{{ end }}
{{- range .Alerts.Resolved }}Resolved after {{ .EndsAt.Sub .StartsAt }}: {{ .Annotations.summary }}
{{ end }}
{{- end }}
"""

# Matchers of all labels, as the form for a silence reads them from its address.
_MATCHERS: Final = r"""{{ define "llm.quoted" -}}
{{ . | reReplaceAll `(["\\])` `\$1` | urlquery | reReplaceAll `\+` "%20" }}
{{- end }}

{{ define "llm.matchers" -}}
{{ range $number, $label := .SortedPairs }}{{ if $number }}%2C{{ end -}}
{{ $label.Name }}%3D%22{{ template "llm.quoted" $label.Value }}%22{{ end }}
{{- end }}
"""


def _messages(*, panel: str, silence: str, form: str) -> str:
    """Return the messages. ``panel`` is the expression of an alert's panel; where ``silence`` is not empty, ``form``
    writes the address of the form for a silence of it.
    """
    text = "\n".join((_COUNTS, _SLACK, _EMAIL)).replace("PANEL", panel).replace("SILENCE", silence)
    return text.replace("FORM", form).strip() + "\n"


TEMPLATE: Final = _messages(panel=".PanelURL", silence=".SilenceURL", form="{{ . }}")
"""All of them as one group of Grafana's notification templates."""

_FORM: Final = '{{ $.ExternalURL }}/#/silences/new?filter=%7B{{ template "llm.matchers" .Labels }}%7D'
ALERTMANAGER_TEMPLATE: Final = f"{_MATCHERS}\n" + _messages(panel=".Annotations.panel_url", silence=".", form=_FORM)
"""All of them as a template file of Alertmanager."""
