"""job.podTemplate over ours: as kubectl patch does it."""

from __future__ import annotations

import pytest

from specbatch.cluster.manifests.merge import merge
from tests.cluster.rendering import container, env, pod, rendered


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"b": 1}}, {"a": {"c": None}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": {"b": None}}, {"a": {}}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": 1}, {"a": {"b": None, "c": [{"d": None}]}}, {"a": {"c": [{}]}}),
        ({"args": [1]}, {"args": [2]}, {"args": [2]}),
        (
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "2"}]},
            {"env": [{"name": "A", "value": "2"}]},
        ),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "B"}]}, {"env": [{"name": "A"}, {"name": "B"}]}),
        (
            {"ports": [{"containerPort": 80}]},
            {"ports": [{"containerPort": 80, "name": "h"}]},
            {"ports": [{"containerPort": 80, "name": "h"}]},
        ),
        (
            {"env": [{"name": "A"}]},
            {"env": [{"name": ["A"]}, {"value": "x"}, None]},
            {"env": [{"name": "A"}, {"name": ["A"]}, {"value": "x"}, None]},
        ),
        ({"env": [{"name": "A"}]}, {"env": None}, {}),
        ({}, {"env": [{"name": "A", "value": None}]}, {"env": [{"name": "A"}]}),
    ],
)
def test_maps_merge_named_items_merge_by_name_null_takes_away_and_other_lists_are_replaced(base, patch, merged):
    assert merge(base, patch) == merged


def test_a_sidecar_joins_and_the_runner_keeps_what_is_not_said():
    made = rendered(
        "podTemplate: {spec: {containers: [{name: proxy, image: proxy:1}, {name: runner, env: [{name: HOME, value: /h}]}]}}"
    )
    assert [one["name"] for one in pod(made)["containers"]] == ["runner", "proxy"]
    assert env(made)["HOME"] == "/h"
    assert env(made)["USER"] == "specbatch"
    assert container(made)["command"][0] == "python"


def test_a_volume_of_ours_is_changed_by_its_name():
    made = rendered("podTemplate: {spec: {volumes: [{name: cache, emptyDir: {sizeLimit: 9Gi}}]}}")
    volumes = {one["name"]: one for one in pod(made)["volumes"]}
    assert volumes["cache"] == {"name": "cache", "emptyDir": {"sizeLimit": "9Gi"}}
    assert len(volumes) == 5


def test_labels_and_annotations_of_the_pods_are_added():
    made = rendered("podTemplate: {metadata: {annotations: {a: b}, labels: {c: d}}}")
    metadata = made.job["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {"a": "b"}
    assert metadata["labels"]["c"] == "d"
    assert metadata["labels"]["specbatch.dev/run"] == "nightly"
