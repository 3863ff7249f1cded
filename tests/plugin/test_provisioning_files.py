"""The provisioning folder: fresh, readable by Grafana, without a secret, and in step with compose.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from plugin.provisioning_files import FOLDER, Provisioning, main, stale_files

ROOT = Path(__file__).parent.parent.parent


def documents(provisioning: Provisioning) -> dict[str, Any]:
    files = provisioning.files().items()
    return {path: yaml.safe_load(content) for path, content in files if path.endswith(".yaml")}


def test_the_committed_files_are_fresh() -> None:
    assert stale_files(Provisioning().files()) == []
    assert main(["--check"]) == 0
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.*")} == set(Provisioning().files())


def test_the_credential_is_a_header_read_from_a_file() -> None:
    for source in documents(Provisioning())["datasources/llm-observatory.yaml"]["datasources"]:
        key = "$__file{/run/llm-observatory/grafana_key}"
        if source["type"] == "yesoreyeram-infinity-datasource":
            assert source["jsonData"]["auth_method"] == "bearerToken"
            assert source["secureJsonData"] == {"bearerToken": key}
        else:
            assert source["jsonData"]["httpHeaderName1"] == "Authorization"
            assert source["secureJsonData"] == {"httpHeaderValue1": f"Bearer {key}"}
        assert "basicAuth" not in source
        assert source["access"] == "proxy"
        assert len(source["uid"]) <= 40


def test_each_source_is_under_its_own_path() -> None:
    found = documents(Provisioning(url="http://llm:8080"))["datasources/llm-observatory.yaml"]["datasources"]
    assert {source["type"]: source["url"] for source in found} == {
        "simpod-json-datasource": "http://llm:8080/grafana",
        "jaeger": "http://llm:8080/jaeger",
        "tempo": "http://llm:8080/tempo",
        "prometheus": "http://llm:8080/prometheus",
        "yesoreyeram-infinity-datasource": "http://llm:8080",
    }


def test_the_folder_of_dashboards_is_read_only_in_the_user_interface() -> None:
    (provider,) = documents(Provisioning())["dashboards/llm-observatory.yaml"]["providers"]
    assert provider["allowUiUpdates"] is False
    rules = documents(Provisioning())["alerting/llm-observatory.yaml"]["groups"]
    assert {group["folder"] for group in rules} == {provider["folder"]}
    assert "folderUid" not in provider, "Grafana would make a second folder of the same title beside that of the rules"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards/llm-observatory"


def test_compose_mounts_them() -> None:
    grafana = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]
    mounted = {volume.split(":")[0]: volume.split(":")[1] for volume in grafana["volumes"]}
    assert mounted["./plugin/provisioning/datasources"] == "/etc/grafana/provisioning/datasources"
    assert mounted["./plugin/provisioning/dashboards"] == "/etc/grafana/provisioning/dashboards"
    assert mounted["./plugin/provisioning/alerting"] == "/etc/grafana/provisioning/alerting"
    for source in documents(Provisioning())["datasources/llm-observatory.yaml"]["datasources"]:
        if source["type"].endswith("-datasource"):
            assert f"{source['type']}@" in grafana["environment"]["GF_PLUGINS_PREINSTALL_SYNC"]
    assert mounted["./dashboards/json"] == Provisioning().dashboards
    assert grafana["environment"]["LLM_OBSERVATORY_URL"] == "http://server:8080"
