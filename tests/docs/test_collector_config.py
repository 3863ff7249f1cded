"""The Collector configuration of the how-to is one: valid YAML whose parts refer to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "collector.md"


@pytest.fixture
def config() -> dict[str, Any]:
    """The configuration in the page."""
    text = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    return document


def test_every_pipeline_names_parts_that_are_defined(config: dict[str, Any]) -> None:
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= config[kind].keys()
    assert set(config["service"]["extensions"]) <= config["extensions"].keys()
    exporter = config["exporters"]["otlp_http/observatory"]
    assert exporter["sending_queue"]["storage"] in config["extensions"]


def test_batches_stay_below_the_receivers_limit_and_are_made_behind_the_disk(config: dict[str, Any]) -> None:
    exporter = config["exporters"]["otlp_http/observatory"]
    assert exporter["sending_queue"]["batch"]["max_size"] <= 10_000
    assert exporter["compression"] in ("gzip", "deflate", "none")
    assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    assert not any(name.partition("/")[0] == "batch" for name in config["processors"])
