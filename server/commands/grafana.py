"""``grafana``: installs dashboards, data sources and alert rules into a Grafana, checks them, and removes them."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from server.commands.parsing import Commands, add_command, add_group
from server.terminal.output import CommandFailed, say

if TYPE_CHECKING:
    from plugin.grafana_api import Grafana

TOKEN_VARIABLE = "GRAFANA_TOKEN"  # noqa: S105 - the name of a variable
OBSERVATORY = "http://127.0.0.1:8080"


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    group = add_group(commands, "grafana", "install dashboards and alerts into a Grafana, check them, remove them")
    install = add_command(
        group,
        "install",
        "install data sources, dashboards and alert rules",
        run_install,
        description=(
            "Makes a folder, data sources with a key of their own, all dashboards and the alert rules. A second run\n"
            "changes only what is not as it should be, and keeps what somebody edited in Grafana."
        ),
        examples=(
            "  llm-observatory grafana install --url http://localhost:3000 --user admin:admin --key $KEY\n"
            "  llm-observatory grafana install --url https://example.org/grafana --token $TOKEN --dry-run\n"
        ),
    )
    _add_grafana(install)
    install.add_argument("--key", default="", help="API key of kind dashboard for the data sources")
    install.add_argument(
        "--observatory-token", metavar="TOKEN", default="", help="token with keys:manage, to create that key"
    )
    install.add_argument("--project", help="the one project that the key reads (with --observatory-token)")
    _add_choices(install)
    install.add_argument("--dry-run", action="store_true", help="only print what would be done")
    install.add_argument("--force", action="store_true", help="also replace what was edited in Grafana")
    check = add_command(
        group,
        "check",
        "let Grafana run the query of every panel and alert; exit code 1 if one fails",
        run_check,
        examples="  llm-observatory grafana check --url http://localhost:3000 --token $TOKEN\n",
    )
    _add_grafana(check)
    _add_flavour(check)
    uninstall = add_command(
        group,
        "uninstall",
        "remove everything that install added",
        run_uninstall,
        examples="  llm-observatory grafana uninstall --url http://localhost:3000 --token $TOKEN\n",
    )
    _add_grafana(uninstall)
    uninstall.add_argument("--dry-run", action="store_true", help="only print what would be done")
    provision = add_command(
        group,
        "provision",
        "write the files of a Grafana that is provisioned by files",
        run_provision,
        description=(
            "DIR gets provisioning/ (for /etc/grafana/provisioning) and dashboards/ (for --dashboards).\n"
            "provisioning/prometheus has the alert rules and messages for vmalert and Alertmanager."
        ),
        examples="  llm-observatory grafana provision ./grafana --observatory-url http://observatory:8080\n",
    )
    provision.add_argument("dir", type=Path, metavar="DIR", help="the folder to write to")
    provision.add_argument(
        "--observatory-url",
        metavar="URL",
        default="${LLM_OBSERVATORY_URL}",
        help="address of this server, as Grafana reaches it",
    )
    provision.add_argument(
        "--key-file", default="/run/llm-observatory/grafana_key", help="file in which Grafana finds the API key"
    )
    provision.add_argument(
        "--dashboards",
        default="/var/lib/grafana/dashboards/llm-observatory",
        help="folder in which Grafana finds the dashboards",
    )
    provision.add_argument(
        "--grafana-url",
        metavar="URL",
        default="",
        help="address at which people open Grafana: alerts of vmalert and Alertmanager link to its panels",
    )
    _add_choices(provision)


def run_install(options: argparse.Namespace) -> int:
    """Install, or with --dry-run print what would be done. Exit code 1 if a plugin is missing."""
    from plugin.desired_state import DesiredState
    from plugin.grafana_api import GrafanaRefused
    from plugin.installer import CREATE, DELETE, UPDATE, missing_plugins, plan

    try:
        grafana = _grafana(options)
        say(f"Grafana {grafana.version()} at {grafana.url}")
        wanted = DesiredState(
            options.observatory_url,
            alerts=options.alerts,
            runbooks=options.runbooks,
            plugin=not options.without_plugin,
        )
        missing = missing_plugins(grafana, wanted)
        for sentence in missing:
            say(sentence)
        key = options.key
        if not key and options.observatory_token:
            key = "(a new key)" if options.dry_run else _new_key(options)
        for step in plan(grafana, replace(wanted, key=key), force=options.force):
            if step.action in (CREATE, UPDATE, DELETE) and not options.dry_run and step.run is not None:
                step.run()
            print(step, flush=True)
    except GrafanaRefused as error:
        raise CommandFailed(str(error)) from error
    if not options.dry_run and not missing:
        say(f"open {grafana.url}/d/llm-overview")
    return 1 if missing else 0


def run_check(options: argparse.Namespace) -> int:
    """Run the query of every panel through Grafana. Exit code 1 if one fails."""
    from plugin.checker import FAILED, check
    from plugin.desired_state import DesiredState
    from plugin.grafana_api import GrafanaRefused

    states: dict[str, int] = {}
    wanted = DesiredState(options.observatory_url, alerts=options.alerts, plugin=not options.without_plugin)
    try:
        for finding in check(_grafana(options), wanted):
            print(finding, flush=True)
            states[finding.state] = states.get(finding.state, 0) + 1
    except GrafanaRefused as error:
        raise CommandFailed(str(error)) from error
    say(", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    return 1 if states.get(FAILED) else 0


def run_uninstall(options: argparse.Namespace) -> int:
    """Remove everything that install added."""
    from plugin.desired_state import DesiredState
    from plugin.grafana_api import GrafanaRefused
    from plugin.installer import removal

    try:
        for step in removal(_grafana(options), DesiredState(options.observatory_url)):
            if not options.dry_run and step.run is not None:
                step.run()
            print(step, flush=True)
    except GrafanaRefused as error:
        raise CommandFailed(str(error)) from error
    return 0


def run_provision(options: argparse.Namespace) -> int:
    """Write provisioning files and dashboards below the folder."""
    from dashboards.build import render_files
    from plugin.provisioning_files import Provisioning

    provisioning = Provisioning(
        url=options.observatory_url,
        key_file=options.key_file,
        dashboards=options.dashboards,
        alerts=options.alerts,
        runbooks=options.runbooks,
        grafana=options.grafana_url,
        plugin=not options.without_plugin,
    )
    files = {f"provisioning/{path}": content for path, content in provisioning.files().items()}
    files |= {f"dashboards/{name}": content for name, content in render_files(provisioning.boards()).items()}
    for path, content in files.items():
        target = options.dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
        print(target)
    say(
        f"mount {options.dir}/provisioning as /etc/grafana/provisioning, {options.dir}/dashboards as "
        f"{options.dashboards}, and put a key of kind dashboard into {options.key_file}"
    )
    return 0


def _add_flavour(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--without-plugin",
        action="store_true",
        help="dashboards for Grafana's built-in Prometheus and Tempo data sources: they need no plugin, and show less",
    )
    parser.add_argument(
        "--alerts",
        choices=("prometheus", "infinity"),
        default="prometheus",
        help="data source of alert rules: Grafana's built-in Prometheus (all rules) or the plugin Infinity (budgets)",
    )


def _add_choices(parser: argparse.ArgumentParser) -> None:
    _add_flavour(parser)
    parser.add_argument(
        "--runbooks",
        metavar="URL",
        default="",
        help="address at which people read docs/reference/alerts.md: each alert gets a link to its section",
    )


def _add_grafana(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="address of Grafana, as the browser reaches it, with its sub-path")
    parser.add_argument("--token", help=f"token of a service account of role Admin (default: {TOKEN_VARIABLE})")
    parser.add_argument("--user", metavar="NAME:PASSWORD", help="in place of a token")
    parser.add_argument("--ca", help="file of certificates to trust")
    parser.add_argument("--insecure", action="store_true", help="do not check Grafana's certificate")
    parser.add_argument(
        "--observatory-url",
        metavar="URL",
        default=OBSERVATORY,
        help=f"address of this server, as Grafana reaches it (default {OBSERVATORY})",
    )


def _grafana(options: argparse.Namespace) -> Grafana:
    from plugin.grafana_api import Grafana

    token = options.token or os.environ.get(TOKEN_VARIABLE, "")
    if options.user:
        name, separator, password = options.user.partition(":")
        if not separator:
            raise CommandFailed("--user is NAME:PASSWORD")
        return Grafana(options.url, (name, password), verify=options.ca or not options.insecure)
    if not token:
        raise CommandFailed(f"Grafana needs a credential: --token, {TOKEN_VARIABLE}, or --user NAME:PASSWORD")
    return Grafana(options.url, token, verify=options.ca or not options.insecure)


def _new_key(options: argparse.Namespace) -> str:
    """Return a read-only key of one project, created with --observatory-token."""
    import requests

    if not options.project:
        raise CommandFailed("--observatory-token creates a key of one project: name the project with --project")
    try:
        answer = requests.post(
            f"{options.observatory_url.rstrip('/')}/api/v1/keys",
            json={"label": f"Grafana {options.url}"[:80], "kind": "dashboard", "projects": [options.project]},
            headers={"Authorization": f"Bearer {options.observatory_token}"},
            timeout=30,
        )
    except requests.RequestException as error:
        raise CommandFailed(f"{options.observatory_url} cannot be reached: {error}") from error
    if not answer.ok:
        raise CommandFailed(f"no key was created: {answer.status_code} {answer.text[:300]}")
    return str(answer.json()["data"]["key"])
