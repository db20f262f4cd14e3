"""How the run becomes a Kubernetes Job. `specbatch run` on this machine reads nothing of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from specbatch import __version__
from specbatch.api.base import DnsSubdomain, EnvName, LabelValue, QualifiedName, SpecModel, Text
from specbatch.api.quantity import Quantity
from specbatch.api.volumes import VolumesSpec


class NameRef(SpecModel):
    """The name of an object in the Job's namespace."""

    name: DnsSubdomain = Field(description="The object's name.", examples=["registry-login"])


class SecretSource(SpecModel):
    """A whole Secret as environment variables: every key becomes one."""

    name: DnsSubdomain = Field(description="The Secret's name.", examples=["s3-credentials"])
    optional: bool = Field(default=False, description="Whether the pod starts without it.", examples=[True])


class SecretKey(SpecModel):
    """One key of a Secret."""

    name: DnsSubdomain = Field(description="The Secret's name.", examples=["hf"])
    key: Text = Field(description="The key in the Secret.", examples=["token"])
    optional: bool = Field(default=False, description="Whether the pod starts without it.", examples=[True])


class ResourcesSpec(SpecModel):
    """CPU, memory and disk of the pod. The GPUs come from placement.gpus."""

    requests: dict[QualifiedName, Quantity] = Field(
        default_factory=dict, description="What the scheduler sets aside.", examples=[{"cpu": "8", "memory": "64Gi"}]
    )
    limits: dict[QualifiedName, Quantity] = Field(
        default_factory=dict, description="What the pod may use at most.", examples=[{"memory": "96Gi"}]
    )


class Toleration(SpecModel):
    """A taint that the pods may ignore, as in Kubernetes. The taint of the GPU resource is tolerated without this."""

    key: QualifiedName | None = Field(
        default=None, description="The taint's key; left out, all.", examples=["dedicated"]
    )
    operator: Literal["Exists", "Equal"] = Field(
        default="Equal", description="Whether the value counts.", examples=["Exists"]
    )
    value: LabelValue | None = Field(default=None, description="The taint's value.", examples=["batch"])
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; left out, all.", examples=["NoSchedule"]
    )
    toleration_seconds: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] | None = Field(
        default=None, description="With NoExecute: how long the pod may stay.", examples=[300]
    )


RUNNER_IMAGE = f"ghcr.io/specbatch/runner:{__version__}"
VLLM_IMAGE = f"ghcr.io/specbatch/vllm:{__version__}"


class JobSpec(SpecModel):
    """How the run becomes a Kubernetes Job. `specbatch run` on this machine reads nothing of it."""

    image: Text = Field(
        default=RUNNER_IMAGE,
        description="The container image, with specbatch[runner] inside. Left as it is, a run with engine.name vllm or a target.adapter has "
        f"{VLLM_IMAGE} instead (the Dockerfile's target vllm); auto takes vLLM only where the image named here has it.",
        examples=["registry.example.com/specbatch/runner:0.1.0"],
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When the node pulls the image.", examples=["Always"]
    )
    image_pull_secrets: list[NameRef] = Field(
        default_factory=list, description="Secrets with the registry's login.", examples=[[{"name": "registry-login"}]]
    )
    completions: int = Field(
        default=1,
        ge=1,
        le=100_000,
        description="The number of shards: the dataset's rows are divided among so many pods.",
        examples=[16],
    )
    parallelism: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="The pods that run at once. Left out: all of completions.", examples=[4]
    )
    backoff_limit_per_index: int = Field(
        default=3,
        ge=0,
        le=2**31 - 1,
        description="How often a failed shard is tried again. Evictions and node losses do not count.",
        examples=[5],
    )
    max_failed_indexes: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None,
        description="Fail the whole Job when more shards than this have failed. Left out: the others go on.",
        examples=[0],
    )
    active_deadline_seconds: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None,
        description="End the Job after so many seconds, whatever its state. Left out: never.",
        examples=[86400],
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None,
        description="Delete the finished Job (never the results) after so many seconds. Left out: it stays.",
        examples=[604800],
    )
    termination_grace_period_seconds: int = Field(
        default=60,
        ge=1,
        le=2**31 - 1,
        description="The time between the request to stop and the kill. It must be longer than results.fsyncSeconds.",
        examples=[120],
    )
    gpu_resource_name: QualifiedName = Field(
        default="nvidia.com/gpu",
        description="The resource that placement.gpus are requested of: nvidia.com/gpu, a MIG profile, amd.com/gpu, ...",
        examples=["nvidia.com/mig-3g.40gb"],
    )
    resources: ResourcesSpec = Field(
        default_factory=ResourcesSpec,
        description="CPU, memory and disk of the pod. The GPUs come from placement.gpus.",
        examples=[{"requests": {"cpu": "8", "memory": "64Gi"}}],
    )
    shared_memory: Quantity = Field(
        default="1Gi",
        description="The size of /dev/shm, which is memory and counts towards the pod's.",
        examples=["8Gi"],
    )
    node_selector: dict[QualifiedName, LabelValue] = Field(
        default_factory=dict,
        description="Labels that a node must have.",
        examples=[{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}],
    )
    tolerations: list[Toleration] = Field(
        default_factory=list,
        description="Taints that the pods may ignore. The taint of the GPU resource is tolerated without this.",
        examples=[[{"key": "dedicated", "operator": "Exists"}]],
    )
    affinity: dict[str, Any] = Field(
        default_factory=dict,
        description="Affinity and anti-affinity, as in a pod's spec.",
        examples=[{"podAntiAffinity": {}}],
    )
    topology_spread_constraints: list[dict[str, Any]] = Field(
        default_factory=list,
        description="How the pods spread over nodes and zones, as in a pod's spec.",
        examples=[[{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}]],
    )
    runtime_class_name: DnsSubdomain | None = Field(
        default=None, description="The RuntimeClass, where GPUs need one.", examples=["nvidia"]
    )
    priority_class_name: DnsSubdomain | None = Field(
        default=None, description="The PriorityClass.", examples=["batch-low"]
    )
    queue_name: DnsSubdomain | None = Field(
        default=None, description="Kueue's LocalQueue, in the Job's namespace.", examples=["team-a"]
    )
    service_account_name: DnsSubdomain | None = Field(
        default=None,
        description="The pods' service account. Its token is never mounted; cloud identities that do without still work.",
        examples=["specbatch-runner"],
    )
    env: dict[EnvName, str] = Field(
        default_factory=dict,
        description="Environment variables, by name. Never secrets: those go by reference in secretEnv and secretEnvFrom.",
        examples=[{"HF_HUB_OFFLINE": "1"}],
    )
    secret_env: dict[EnvName, SecretKey] = Field(
        default_factory=dict,
        description="Environment variables that come from a key of a Secret, by name.",
        examples=[{"HF_TOKEN": {"name": "hf", "key": "token"}}],
    )
    secret_env_from: list[SecretSource] = Field(
        default_factory=list,
        description="Secrets of which every key becomes an environment variable, such as storage credentials.",
        examples=[[{"name": "s3-credentials"}]],
    )
    volumes: VolumesSpec = Field(
        default_factory=VolumesSpec,
        description="The volumes for results, models and data.",
        examples=[{"results": {"claimName": "specbatch-results"}}],
    )
    pod_template: dict[str, Any] = Field(
        default_factory=dict,
        description="Anything else of a pod template: merged strategically over the one that specbatch makes, so nobody is stuck.",
        examples=[{"spec": {"dnsPolicy": "Default"}}],
    )
    allow_privileged_pod_template: bool = Field(
        default=False,
        description="Whether podTemplate may name Secrets and service accounts, and reach the node (hostPath, hostNetwork, privileged, ...). "
        "Read such a spec before you run it: its pods may do what it says.",
        examples=[True],
    )
