import pytest

from tests.cluster.diagnose.objects import (
    at,
    cause_of,
    claim,
    event,
    pod,
    storage_class,
    unschedulable,
    verdict_on,
    waiting,
)

NOT_FOUND = (
    '0/3 nodes are available: persistentvolumeclaim "specbatch-results" not found. preemption: 0/3 nodes are available: 3 Preemption is '
    "not helpful for scheduling."
)
UNBOUND = (
    "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found. preemption: 0/3 nodes are available: 3 "
    "Preemption is not helpful for scheduling."
)


def test_a_claim_that_is_missing_comes_before_everything_else_and_a_near_name_is_offered():
    claims = {"specbatch-result": claim("specbatch-result")}
    verdict = verdict_on(unschedulable(NOT_FOUND), claims=claims)
    assert verdict.finding.cause == "claim-missing"
    assert "specbatch-results does not exist in namespace ml" in verdict.finding.sentence
    assert "did you mean specbatch-result?" in verdict.finding.remedy
    assert cause_of(unschedulable(NOT_FOUND), claims=None) == "claim-missing"  # where claims may not be read


@pytest.mark.parametrize(
    ("pending", "reason", "message", "classes", "cause"),
    [
        (
            claim(phase="Pending", storage_class=None),
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
            [storage_class("standard")],
            "no-default-storage-class",
        ),
        (
            claim(phase="Pending", storage_class="fast"),
            "ProvisioningFailed",
            'storageclass.storage.k8s.io "fast" not found',
            None,
            "storage-class-missing",
        ),
        (claim(phase="Pending", storage_class="fast"), "Other", "", [storage_class("standard")], "storage-class-missing"),
        (
            claim(phase="Pending", storage_class="nfs"),
            "ProvisioningFailed",
            'failed to provision volume with StorageClass "nfs": rpc error: code = ResourceExhausted desc = quota exceeded',
            [storage_class("nfs")],
            "provisioning-failed",
        ),
        (
            claim(phase="Pending", storage_class="nfs"),
            "ExternalProvisioning",
            "Waiting for a volume to be created either by the external provisioner 'nfs.csi.k8s.io' or manually by the system administrator.",
            [storage_class("nfs")],
            "claim-unbound",
        ),
    ],
)  # fmt: skip
def test_a_claim_that_gets_no_volume_says_why(pending, reason, message, classes, cause):
    pending["metadata"]["uid"] = "claim-uid"
    verdict = verdict_on(
        unschedulable(UNBOUND),
        claims={"specbatch-results": pending},
        classes=classes,
        events=[event(pending, reason, message)],
    )
    assert verdict.finding.cause == cause
    assert "specbatch-results" in verdict.finding.sentence


def test_a_claim_that_waits_for_its_first_consumer_is_no_cause():
    late = claim(phase="Pending", storage_class="local")
    said = event(late, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    message = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    assert cause_of(unschedulable(message), claims={"specbatch-results": late}, events=[said]) == "not-enough-gpus"


def test_a_late_claim_that_cannot_be_provisioned_is_the_cause_whatever_the_scheduler_says():
    late = claim(phase="Pending", storage_class="local")
    events = [
        event(late, "WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        event(late, "ProvisioningFailed", "rpc error: code = ResourceExhausted", seconds_ago=5),
    ]
    timeout = 'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded'
    finding = verdict_on(unschedulable(timeout), claims={"specbatch-results": late}, events=events).finding
    assert finding.cause == "provisioning-failed"
    assert "ResourceExhausted" in finding.sentence


def test_an_unbound_claim_is_the_cause_where_only_the_scheduler_says_so():
    assert cause_of(unschedulable(UNBOUND), claims=None) == "claim-unbound"


def test_claims_that_go_or_have_lost_their_volume():
    assert (
        cause_of(unschedulable(UNBOUND), claims={"specbatch-results": claim(deletionTimestamp=at(9))})
        == "claim-deleting"
    )
    assert cause_of(unschedulable(UNBOUND), claims={"specbatch-results": claim(phase="Lost")}) == "volume-lost"


@pytest.mark.parametrize(
    "said", ["node(s) had volume node affinity conflict", "node(s) didn't match PersistentVolume's node affinity", "node(s) had no available volume zone"]
)  # fmt: skip
def test_a_volume_in_another_zone_comes_before_the_nodes_that_are_full(said):
    message = f"0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 {said}. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    assert cause_of(unschedulable(message)) == "volume-elsewhere"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            "claim-in-use",
        ),
        ("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)", "volume-lost"),
        ("node(s) didn't find available persistent volumes to bind", "no-volume"),
    ],
)
def test_what_else_the_scheduler_says_of_volumes(said, cause):
    assert (
        cause_of(
            unschedulable(
                f"0/2 nodes are available: 2 {said}. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
            )
        )
        == cause
    )


CREATING = waiting("ContainerCreating")


@pytest.mark.parametrize(
    ("reason", "message", "cause", "says"),
    [
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-8f21" Volume is already exclusively attached to one node and can\'t be attached to another',
            "claim-in-use",
            "ReadWriteOnce",
        ),
        ("FailedAttachVolume", 'Multi-Attach error for volume "pvc-8f21" Volume is already used by pod(s) nightly-0', "claim-in-use", "in use"),
        (
            "FailedAttachVolume",
            'AttachVolume.Attach failed for volume "pvc-8f21" : rpc error: code = Internal desc = volume not found',
            "mount-failed",
            "pvc-8f21",
        ),
        ("FailedMount", 'MountVolume.SetUp failed for volume "creds" : secret "s3-credentials" not found', "secret-missing", "s3-credentials"),
        ("FailedMount", 'MountVolume.SetUp failed for volume "spec" : configmap "nightly-0123456789" not found', "config-map-missing", "is gone"),
        ("FailedMount", 'MountVolume.SetUp failed for volume "extra" : configmap "other" not found', "config-map-missing", "other"),
        ("FailedMount", 'MountVolume.SetUp failed for volume "creds" : references non-existent secret key: token', "secret-key-missing", "token"),
        ("FailedMount", 'MountVolume.SetUp failed for volume "data" : hostPath type check failed: /mnt/models is not a directory', "mount-failed", "/mnt/models"),
        (
            "FailedMount",
            ('MountVolume.MountDevice failed for volume "pvc-1" : kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: '
            "driver name ebs.csi.aws.com not found in the list of registered CSI drivers"),
            "mount-failed",
            "ebs.csi.aws.com",
        ),
        (
            "FailedMount",
            ("Unable to attach or mount volumes: unmounted volumes=[results], unattached volumes=[], failed to process volumes=[]: timed out "
            "waiting for the condition"),
            "mount-timeout",
            "results",
        ),
        ("FailedMount", 'MountVolume.SetUp failed for volume "nfs" : mount failed: exit status 32 mount.nfs: access denied by server', "mount-failed", "nfs"),
    ],
)  # fmt: skip
def test_a_volume_that_does_not_come_to_its_node(reason, message, cause, says):
    verdict = verdict_on(CREATING, events=[event(CREATING, reason, message)])
    assert verdict.finding.cause == cause
    assert says in verdict.finding.sentence


def test_the_event_that_names_the_cause_counts_not_the_timeout_after_it():
    why = event(
        CREATING, "FailedMount", 'MountVolume.SetUp failed for volume "creds" : secret "s3" not found', seconds_ago=90
    )
    timeout = event(
        CREATING,
        "FailedMount",
        "Unable to attach or mount volumes: unmounted volumes=[creds]: timed out waiting for the condition",
        seconds_ago=5,
    )
    assert cause_of(CREATING, events=[timeout, why]) == "secret-missing"


def test_a_mount_that_came_in_the_end_is_no_cause():
    slow = event(
        CREATING,
        "FailedMount",
        'MountVolume.SetUp failed for volume "spec" : failed to sync configmap cache: timed out',
        seconds_ago=90,
    )
    late = event(
        CREATING, "FailedMount", 'MountVolume.SetUp failed for volume "creds" : secret "s3" not found', seconds_ago=90
    )
    pulling = event(CREATING, "Pulling", 'Pulling image "ghcr.io/specbatch/runner:0.1.0"', seconds_ago=10)
    assert cause_of(CREATING, events=[slow]) == "starting"
    assert cause_of(CREATING, events=[late, pulling]) == "pulling"


def test_pods_with_a_node_are_not_asked_for_their_claims():
    assert cause_of(pod(node="node-a"), claims={}) == "starting"
