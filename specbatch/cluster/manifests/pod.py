"""The pod template of a run: one container that reads the spec and writes the results.

It satisfies the restricted Pod Security level: no root, no privileges, a read-only root filesystem, no service account token. Fields that the spec
leaves out are not rendered.
"""

from __future__ import annotations

from specbatch.api.job import SpecBatchJob
from specbatch.api.job_section import RUNNER_IMAGE, VLLM_IMAGE
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.merge import merge
from specbatch.cluster.manifests.mounts import CACHE, SPEC_FOLDER, SPEC_KEY, mounts, volumes
from specbatch.cluster.manifests.names import CONTAINER, pod_labels

USER = 10001  # of the image; a number, so that the kubelet can check runAsNonRoot
COMMAND = ["python", "-m", "specbatch.runner", f"{SPEC_FOLDER}/{SPEC_KEY}"]


def pod_template(job: SpecBatchJob, config_map: str) -> Object:
    """The template, with the spec's job.podTemplate merged over it."""
    template: Object = {"metadata": {"labels": pod_labels(job)}, "spec": _pod_spec(job, config_map)}
    merged: Object = merge(template, job.spec.job.pod_template)
    return merged


def security_context() -> Object:
    """The pod's part of the restricted Pod Security level; fsGroup lets the user write to claims."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context() -> Object:
    """The container's part."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _pod_spec(job: SpecBatchJob, config_map: str) -> Object:
    section = job.spec.job
    return _given(
        {
            "restartPolicy": "Never",  # podFailurePolicy asks for it
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": section.termination_grace_period_seconds,
            "securityContext": security_context(),
            "containers": [_container(job)],
            "volumes": volumes(job, config_map),
            "serviceAccountName": section.service_account_name,
            "imagePullSecrets": [{"name": secret.name} for secret in section.image_pull_secrets],
            "nodeSelector": dict(section.node_selector),
            "tolerations": _tolerations(job),
            "affinity": section.affinity,
            "topologySpreadConstraints": section.topology_spread_constraints,
            "runtimeClassName": section.runtime_class_name,
            "priorityClassName": section.priority_class_name,
        }
    )


def _container(job: SpecBatchJob) -> Object:
    section = job.spec.job
    return _given(
        {
            "name": CONTAINER,
            "image": _image(job),
            "imagePullPolicy": section.image_pull_policy,
            "command": COMMAND,
            "workingDir": "/",
            "env": _env(job),
            "envFrom": [
                {"secretRef": _given({"name": secret.name, "optional": secret.optional or None})}
                for secret in section.secret_env_from
            ],
            "resources": _resources(job),
            "securityContext": container_security_context(),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts(job),
        }
    )


def _image(job: SpecBatchJob) -> str:
    """The spec's; where that is the default and vLLM has to decode, the one with vLLM."""
    spec, image = job.spec, job.spec.job.image
    needs_vllm = spec.engine.name == "vllm" or spec.target.adapter is not None
    return VLLM_IMAGE if needs_vllm and image == RUNNER_IMAGE else image


def _env(job: SpecBatchJob) -> list[Object]:
    """Environment variables sorted by name; the spec's override ours."""
    section = job.spec.job
    cache = section.volumes.model_cache
    ours = {
        "HF_HOME": f"{CACHE}/huggingface" if cache is None else cache.mount_path,
        "HOME": CACHE,
        "MPLCONFIGDIR": f"{CACHE}/matplotlib",
        "PYTHONUNBUFFERED": "1",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor",
        "TRITON_CACHE_DIR": f"{CACHE}/triton",
        "USER": "specbatch",  # the user id has no name in the image
        "XDG_CACHE_HOME": CACHE,
    }
    if cache is not None and cache.read_only:
        ours["HF_HUB_OFFLINE"] = "1"  # a read-only cache takes no downloads
    if job.spec.placement.gpus == 0:
        ours["NVIDIA_VISIBLE_DEVICES"] = "void"  # a runtime may expose every GPU to a pod that requests none
    literal = {name: value for name, value in {**ours, **section.env}.items() if name not in section.secret_env}
    secret = {
        name: {"secretKeyRef": _given({"name": key.name, "key": key.key, "optional": key.optional or None})}
        for name, key in section.secret_env.items()
    }
    return [
        {"name": name, "value": literal[name]} if name in literal else {"name": name, "valueFrom": secret[name]}
        for name in sorted({*literal, *secret})
    ]


def _resources(job: SpecBatchJob) -> Object:
    section, gpus = job.spec.job, job.spec.placement.gpus
    limits = {**section.resources.limits, **({section.gpu_resource_name: str(gpus)} if gpus else {})}
    return _given({"requests": dict(section.resources.requests), "limits": limits})


def _tolerations(job: SpecBatchJob) -> list[Object]:
    section = job.spec.job
    of_gpus = [{"key": section.gpu_resource_name, "operator": "Exists", "effect": "NoSchedule"}]
    return [
        *(of_gpus if job.spec.placement.gpus else []),
        *(one.model_dump(by_alias=True, exclude_none=True) for one in section.tolerations),
    ]


def _given(fields: Object) -> Object:
    """Without the fields that the spec leaves out."""
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}
