"""Network policies: ports are parameters, and the cloud's metadata stays out of reach."""

from __future__ import annotations

import pytest

from specbatch.cluster.manifests.fetch_job import fetch_job
from specbatch.cluster.manifests.job import render
from specbatch.cluster.manifests.network_policy import fetch_ports, namespace_policies, policies_of, run_ports
from tests.cluster.egress import METADATA, allows
from tests.cluster.kubernetes_schemas import VERSIONS, problems
from tests.cluster.rendering import job

CACHE = "volumes: {results: {claimName: r}, modelCache: {claimName: m, readOnly: true}}"
PAIR = "{target: {model: Qwen/Qwen3-8B}, dataset: {uri: /data/rows.jsonl}}"


@pytest.mark.parametrize(
    ("section", "spec", "run", "fetch"),
    [
        (CACHE, PAIR, [], [443]),
        (CACHE.replace("true", "false"), PAIR, [443], [443]),
        (CACHE, "{results: {publish: 's3://b/runs'}}", [443], [443]),
        (f"{CACHE}, env: {{AWS_ENDPOINT_URL: 'http://minio:9000'}}", "{}", [443, 9000], [443]),
        (f"{CACHE}, env: {{HTTPS_PROXY: 'http://proxy:3128'}}", PAIR, [3128], [443, 3128]),
        (f"{CACHE}, env: {{HF_ENDPOINT: 'http://mirror.lan:8090/hf'}}", PAIR, [], [8090]),
        (CACHE, "{dataset: {uri: 'http://files.lan/rows.jsonl'}}", [80], [443]),
    ],
)
def test_ports_are_those_of_the_addresses_in_the_spec(section, spec, run, fetch):
    given = job(f"{{{section}}}", spec=spec)
    assert (run_ports(given), fetch_ports(given)) == (run, fetch)


def test_policies_select_the_pods_of_the_run_and_of_its_fetch():
    given = job(f"{{{CACHE}}}", spec=PAIR)
    for policy, body in zip(policies_of(given), (render(given, {}).job, fetch_job(given)), strict=True):
        labels = body["spec"]["template"]["metadata"]["labels"]
        [component] = policy["spec"]["podSelector"]["matchExpressions"]
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        assert labels[component["key"]] in component["values"]


@pytest.mark.parametrize("address", METADATA)
def test_no_parameter_lets_pods_reach_the_metadata_of_the_cloud(address):
    policies = [*namespace_policies(range(1, 1000), range(1, 1000)), *policies_of(job(), [80])]
    for policy in policies:
        assert allows(policy, "192.0.2.1", 443)
        assert allows(policy, "2001:db8::1", 53, "UDP")
        assert not [port for port in (53, 80, 443, 988) if allows(policy, address, port)]
        assert not allows(policy, address, 53, "UDP")


def test_every_kubernetes_takes_them():
    found = [*namespace_policies([443, 9000], []), *policies_of(job(metadata="{namespace: ml}"))]
    assert [said for version in VERSIONS for one in found for said in problems(one, version)] == []
