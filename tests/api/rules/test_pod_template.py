"""What job.podTemplate may do, and what only with job.allowPrivilegedPodTemplate."""

import json

import pytest

from specbatch.api import parse_spec
from specbatch.errors import SpecError

SPEC = """\
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {{name: t}}
spec:
  target: {{model: embedded:target}}
  dataset: {{uri: rows.jsonl}}
  job: {job}
"""


def problems(spec, **more):
    try:
        parse_spec(SPEC.format(job=json.dumps({"podTemplate": {"spec": spec}, **more})))
    except SpecError as error:
        return error.problems
    return ()


def container(**fields):
    return {"containers": [{"name": "runner", **fields}]}


SECRETS = [
    ({"volumes": [{"name": "a", "secret": {"secretName": "s"}}]}, "volumes[0].secret"),
    (
        {"volumes": [{"name": "a", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
        "volumes[0].projected.sources[0].secret",
    ),
    ({"volumes": [{"name": "a", "csi": {"driver": "secrets-store.csi.k8s.io"}}]}, "volumes[0].csi"),
    ({"volumes": [{"name": "a", "azureFile": {"secretName": "s"}}]}, "volumes[0].azureFile.secretName"),
    (
        container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        "containers[0].env[0].valueFrom.secretKeyRef",
    ),
    (container(envFrom=[{"secretRef": {"name": "s"}}]), "containers[0].envFrom[0].secretRef"),
    (
        {"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "s"}}]}]},
        "initContainers[0].envFrom[0].secretRef",
    ),
    ({"imagePullSecrets": [{"name": "s"}]}, "imagePullSecrets"),
]
ACCOUNTS = [
    ({"serviceAccountName": "admin"}, "serviceAccountName"),
    ({"serviceAccount": "admin"}, "serviceAccount"),
    ({"automountServiceAccountToken": True}, "automountServiceAccountToken"),
    ({"automountServiceAccountToken": None}, "automountServiceAccountToken"),  # takes our `false` away
    (
        {"volumes": [{"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
        "volumes[0].projected.sources[0].serviceAccountToken",
    ),
]
NODE = [
    ({"hostNetwork": True}, "hostNetwork"),
    ({"hostPID": True}, "hostPID"),
    ({"hostIPC": True}, "hostIPC"),
    ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, "volumes[0].hostPath"),
    (container(securityContext={"privileged": True}), "containers[0].securityContext.privileged"),
    (
        container(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
        "containers[0].securityContext.capabilities.add",
    ),
    (
        container(securityContext={"allowPrivilegeEscalation": True}),
        "containers[0].securityContext.allowPrivilegeEscalation",
    ),
    (container(securityContext={"procMount": "Unmasked"}), "containers[0].securityContext.procMount"),
    (container(ports=[{"containerPort": 80, "hostPort": 80}]), "containers[0].ports[0].hostPort"),
    ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "securityContext.seccompProfile.type"),
    ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "securityContext.windowsOptions.hostProcess"),
]


@pytest.mark.parametrize(
    ("spec", "path", "said"),
    [
        *((*one, "names a Secret") for one in SECRETS),
        *((*one, "names a service account") for one in ACCOUNTS),
        *((*one, "gives the pod access to its node") for one in NODE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_secrets_accounts_and_the_node_are_for_who_says_so(spec, path, said):
    (problem,) = problems(spec)
    assert (problem.path, problem.message) == (f"spec.job.podTemplate.spec.{path}", said)
    assert "set job.allowPrivilegedPodTemplate: true" in problem.remedy
    assert problems(spec, allowPrivilegedPodTemplate=True) == ()


@pytest.mark.parametrize(
    "spec",
    [
        {"hostNetwork": False, "hostUsers": False, "hostAliases": [{"ip": "1.2.3.4"}], "hostname": "a"},
        {"automountServiceAccountToken": False},
        {"nodeSelector": {"secret": "yes", "hostPath": "x"}},
        {
            "volumes": [
                {"name": "a", "projected": {"sources": [{"configMap": {"name": "c"}}, {"downwardAPI": {"items": []}}]}}
            ]
        },
        {"volumes": [{"name": "a", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"secret": "x"}}}}}]},
        container(securityContext={"privileged": False, "capabilities": {"drop": ["ALL"]}, "runAsUser": 5}),
        container(env=[{"name": "A", "value": "Unconfined"}], args=["Unmasked"]),
        {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
    ],
)
def test_the_rest_of_a_pod_is_anybodys(spec):
    assert problems(spec) == ()


def test_everything_comes_at_once():
    assert len(problems({"hostNetwork": True, "imagePullSecrets": [{"name": "s"}], "serviceAccountName": "a"})) == 3
