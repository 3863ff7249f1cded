"""Templates of messages about alerts, for Slack and for e-mail, in Grafana's format (Go's text/template).

A contact point uses them by name: ``{{ template "llm.slack.text" . }}``. They read what the alert pack writes:
``summary`` names the fault, ``description`` the remedy, and links lead to panel, runbook and silence. A label may
contain text of applications, so Slack's three special characters are escaped.
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
{{- with .PanelURL }}<{{ . }}|Panel>  {{ end }}
{{- with .Annotations.runbook_url }}<{{ . }}|What to do>  {{ end }}
{{- with .SilenceURL }}<{{ . }}|Silence>{{ end }}
{{ end }}

{{ define "llm.slack.text" -}}
{{ range .Alerts.Firing }}{{ template "llm.slack.alert" . }}
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
{{ with .PanelURL }}Panel: {{ . }}
{{ end }}
{{- with .Annotations.runbook_url }}What to do: {{ . }}
{{ end }}
{{- with .SilenceURL }}Silence: {{ . }}
{{ end }}
{{ end }}
{{- range .Alerts.Resolved }}Resolved after {{ .EndsAt.Sub .StartsAt }}: {{ .Annotations.summary }}
{{ end }}
{{- end }}
"""

TEMPLATE: Final = "\n".join((_COUNTS, _SLACK, _EMAIL)).strip() + "\n"
"""All of them as one group of Grafana's notification templates."""
