"""What is right on this machine and wrong in a pod."""

from __future__ import annotations

import pytest

from tests.cluster.rendering import problems, rendered


@pytest.mark.parametrize(
    ("section", "spec", "path", "message"),
    [
        ("volumes: {results: null}", "{}", "spec.job.volumes.results", "the results would be lost with the pod"),
        ("{}", "{results: {dir: ~/results}}", "spec.results.dir", "~/results means nothing in a pod"),
        (
            "{}",
            "{results: {dir: out}}",
            "spec.results.dir",
            "out is /out in the pod, and job.volumes.results is mounted at /results",
        ),
        ("{}", "{results: {dir: results2}}", "spec.results.dir", "results2 is /results2 in the pod"),
        ("volumes: {results: {claimName: r, mountPath: /}}", "{}", "spec.job.volumes", "nothing may be mounted at /"),
        (
            "volumes: {results: {claimName: r}, data: {claimName: d, mountPath: /tmp/}}",
            "{}",
            "spec.job.volumes",
            "mounted at /tmp",
        ),
        (
            "volumes: {results: {claimName: r}, extra: [{name: shm, mountPath: /x, emptyDir: {}}]}",
            "{}",
            "spec.job.volumes.extra[0].name",
            "shm is a name of specbatch's own",
        ),
        (
            "volumes: {results: {claimName: r}, extra: [{name: data, mountPath: /x, emptyDir: {}}]}",
            "{}",
            "spec.job.volumes.extra[0].name",
            "data is a name of specbatch's own",
        ),
        ("podTemplate: {status: {}}", "{}", "spec.job.podTemplate.status", "is no part of a pod template"),
        (
            "podTemplate: {spec: {containers: null}}",
            "{}",
            "spec.job.podTemplate.spec.containers",
            "is not a list of containers",
        ),
        ("podTemplate: {spec: {containers: [{image: x}]}}", "{}", "spec.job.podTemplate.spec.containers", "with names"),
        ("podTemplate: {spec: []}", "{}", "spec.job.podTemplate.spec", "is not a map"),
        (
            "{}",
            "{dataset: {uri: a.txt, chatTemplate: ./a.txt}}",
            "spec.dataset.chatTemplate",
            "a.txt is the dataset already",
        ),
        (
            "{}",
            "{dataset: {uri: 'https://host/a.txt?sv=1&sig=abc'}}",
            "spec.dataset.uri",
            "holds a signature or token",
        ),
        ("{}", "{dataset: {uri: ~/a.txt}}", "spec.dataset.uri", "~/a.txt is a file of this machine"),
        ("{}", "{dataset: {uri: etc/specbatch/x}}", "spec.dataset.uri", "/etc/specbatch is a read-only volume"),
    ],
)
def test_what_would_go_wrong_in_a_pod_is_found_before(section, spec, path, message):
    (problem,) = problems(section, spec=spec)
    assert problem.path == path
    assert message in problem.message
    assert problem.remedy


def test_everything_wrong_comes_at_once():
    found = problems("volumes: {results: null}\npodTemplate: {status: {}}", spec="{results: {dir: ~/x}}")
    assert [problem.path for problem in found] == [
        "spec.job.volumes.results",
        "spec.results.dir",
        "spec.job.podTemplate.status",
    ]


@pytest.mark.parametrize("folder", ["results", "/results", "./results/", "/results/deep/er"])
def test_results_may_lie_anywhere_on_their_volume(folder):
    assert rendered(spec=f"{{results: {{dir: {folder}}}}}")
