"""The volumes of a pod: results, model cache, data."""

from __future__ import annotations

from pydantic import Field

from specbatch.api.base import AbsolutePath, DnsLabel, DnsSubdomain, SpecModel, Text
from specbatch.api.quantity import Quantity

_MOUNT = "Where the volume is mounted in the container."


class EmptyDir(SpecModel):
    """Space of the node that lives as long as the pod."""

    medium: str | None = Field(
        default=None, description="Memory for a tmpfs; left out, the node's disk.", examples=["Memory"]
    )
    size_limit: Quantity | None = Field(default=None, description="The most that may be written.", examples=["50Gi"])


class CsiVolume(SpecModel):
    """An inline volume of a CSI driver, such as an object-storage mount."""

    driver: DnsSubdomain = Field(description="The name of the driver.", examples=["gcsfuse.csi.storage.gke.io"])
    read_only: bool = Field(default=False, description="Whether the driver mounts it read-only.", examples=[True])
    fs_type: str | None = Field(
        default=None, description="The file system, where the driver asks for one.", examples=["ext4"]
    )
    volume_attributes: dict[str, str] = Field(
        default_factory=dict, description="What the driver wants to know.", examples=[{"bucketName": "prompts"}]
    )
    secret_name: DnsSubdomain | None = Field(
        default=None,
        description="The Secret that the driver reads (nodePublishSecretRef).",
        examples=["bucket-credentials"],
    )


class VolumeSpec(SpecModel):
    """One volume: exactly one of claimName, hostPath, emptyDir and csi."""

    claim_name: DnsSubdomain | None = Field(
        default=None, description="The name of a PersistentVolumeClaim.", examples=["specbatch-results"]
    )
    host_path: AbsolutePath | None = Field(
        default=None,
        description="A folder of the node. Refused by the restricted Pod Security level.",
        examples=["/mnt/models"],
    )
    empty_dir: EmptyDir | None = Field(
        default=None, description="Space of the node that lives as long as the pod.", examples=[{"sizeLimit": "50Gi"}]
    )
    csi: CsiVolume | None = Field(
        default=None,
        description="An inline CSI volume. Object-storage mounts suit data, not results: they cannot append.",
        examples=[{"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": {"bucketName": "prompts"}}],
    )
    sub_path: Text | None = Field(
        default=None, description="Mount only this folder of the volume.", examples=["team-a"]
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources that are given; one where the spec is right."""
        given = {
            "claimName": self.claim_name,
            "hostPath": self.host_path,
            "emptyDir": self.empty_dir,
            "csi": self.csi,
        }
        return tuple(name for name, source in given.items() if source is not None)


class ResultsVolume(VolumeSpec):
    """Where the results are written; it must outlive the pod, or a restart begins again."""

    mount_path: AbsolutePath = Field(default="/results", description=_MOUNT, examples=["/results"])


class ModelCacheVolume(VolumeSpec):
    """Where models are downloaded to (HF_HOME), or lie already."""

    mount_path: AbsolutePath = Field(default="/models", description=_MOUNT, examples=["/models"])
    read_only: bool = Field(default=False, description="Whether nothing may be downloaded into it.", examples=[True])


class DataVolume(VolumeSpec):
    """Where the dataset lies."""

    mount_path: AbsolutePath = Field(default="/data", description=_MOUNT, examples=["/data"])
    read_only: bool = Field(default=True, description="Whether it is mounted read-only.", examples=[True])


class ExtraVolume(VolumeSpec):
    """A further volume, under a name of its own."""

    name: DnsLabel = Field(description="The volume's name in the pod.", examples=["scratch"])
    mount_path: AbsolutePath = Field(description=_MOUNT, examples=["/scratch"])
    read_only: bool = Field(default=False, description="Whether it is mounted read-only.", examples=[True])


class VolumesSpec(SpecModel):
    """The volumes of a pod. Each is left out, or has exactly one of claimName, hostPath, emptyDir and csi."""

    results: ResultsVolume | None = Field(
        default=None,
        description="Where the results are written; results.dir must lie on it. It must outlive the pod, or a restart begins again.",
        examples=[{"claimName": "specbatch-results"}],
    )
    model_cache: ModelCacheVolume | None = Field(
        default=None,
        description="Where models are downloaded to (HF_HOME), or lie already. Left out: every pod downloads for itself.",
        examples=[{"claimName": "specbatch-models"}],
    )
    data: DataVolume | None = Field(
        default=None, description="Where the dataset lies.", examples=[{"claimName": "specbatch-data"}]
    )
    extra: list[ExtraVolume] = Field(
        default_factory=list,
        description="Further volumes.",
        examples=[[{"name": "scratch", "mountPath": "/scratch", "emptyDir": {}}]],
    )

    def all(self) -> dict[str, ResultsVolume | ModelCacheVolume | DataVolume | ExtraVolume]:
        """Every volume that is given, by its name in the pod."""
        named: dict[str, ResultsVolume | ModelCacheVolume | DataVolume | None] = {
            "results": self.results,
            "model-cache": self.model_cache,
            "data": self.data,
        }
        return {name: volume for name, volume in named.items() if volume is not None} | {
            extra.name: extra for extra in self.extra
        }
