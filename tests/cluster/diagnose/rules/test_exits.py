import pytest

from tests.cluster.diagnose.objects import (
    cause_of,
    condition,
    event,
    failed,
    job,
    pod,
    pod_spec,
    termination_message,
    verdict_on,
)


@pytest.mark.parametrize(
    ("code", "message", "cause", "says"),
    [
        (64, termination_message(64, "spec.placement.gpus: is not a number", "write a number"), "bad-spec", "spec.placement.gpus"),
        (65, termination_message(65, "3 rows of 100 are bad, more than errorBudget 0.01 allows"), "bad-dataset", "errorBudget"),
        (66, termination_message(66, "no-such/model is not a folder (RepositoryNotFoundError)", "check the name"), "model-missing", "no-such/model"),
        (66, termination_message(66, "403 Client Error. (GatedRepoError)", "accept the model's licence"), "model-not-permitted", "GatedRepoError"),
        (68, termination_message(68, "cannot be reached: ConnectionError", where="s3://b/rows.jsonl"), "out-of-reach", "cannot be reached"),
        (69, termination_message(69, "the device failed: CUDA error: unspecified launch failure"), "gpu-fault", "CUDA error"),
        (69, termination_message(69, "the device failed: NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus."), "gpu-fault", "Xid (PCI:0000:3b:00): 79"),
        (69, termination_message(69, "spec.placement.gpus is 4, but this process sees no GPUs (CUDA_VISIBLE_DEVICES is not set)", where="placement"), "gpus-not-visible", "sees no GPUs"),
        (70, termination_message(70, "out of memory at 1 sequence of 512 tokens", "raise placement.gpus"), "out-of-gpu-memory", "512 tokens"),
        (74, termination_message(74, "[Errno 28] No space left on device", where="/results/nightly"), "results-volume-full", "/results/nightly"),
        (74, termination_message(74, "Permission denied", where="/results"), "results-not-written", "Permission denied"),
        (74, termination_message(74, "3 of 3 files are not published: cannot list the folder: Unable to locate credentials", where="s3://b/x"), "storage-not-permitted", "credentials"),
        (75, termination_message(75, "told to stop"), "stopped", "told to stop"),
        (1, termination_message(1, "KeyError: 'x'"), "error", "KeyError: 'x'"),
        (1, 'Traceback (most recent call last):\n  File "a.py", line 1\nRuntimeError: it broke\n', "error", "RuntimeError: it broke"),
        (1, "/usr/local/bin/python: No module named specbatch\n", "command-not-found", "does not have the command"),
        (127, "", "command-not-found", "does not have the command"),
        (126, "", "command-not-found", "does not have the command"),
        (1, "exec /usr/local/bin/python: exec format error\n", "image-architecture", "exec format error"),
        (137, "", "killed", "137"),
        (139, "", "crashed", "SIGSEGV"),
        (135, "", "crashed", "/dev/shm"),
        (143, "", "stopped", "143"),
        (3, "", "error", "exit code 3"),
    ],
)  # fmt: skip
def test_the_exit_code_and_the_last_word_of_a_pod_name_the_cause(code, message, cause, says):
    verdict = verdict_on(failed(code, message))
    assert verdict.finding.cause == cause
    assert says in verdict.finding.sentence


def test_the_runners_own_remedy_is_shown_but_a_gated_model_gets_the_clusters():
    assert "check the name" in verdict_on(failed(66, termination_message(66, "x", "check the name"))).finding.remedy
    gated = verdict_on(
        failed(66, termination_message(66, "403 Forbidden (GatedRepoError)", "set HF_TOKEN"))
    ).finding.remedy
    assert "spec.job.secretEnv: {HF_TOKEN: {name: hf, key: token}}" in gated


def test_a_hardware_xid_asks_for_the_node_to_be_taken_out():
    broken = failed(69, termination_message(69, "NVRM: Xid (PCI:0000:3b:00): 48"))
    assert "reset or replace the GPU" in verdict_on(broken).finding.remedy
    own = failed(69, termination_message(69, "NVRM: Xid (PCI:0000:3b:00): 31"))
    assert "reset or replace" not in verdict_on(own).finding.remedy


def test_oom_killed_names_the_limit_and_without_one_the_node():
    limited = pod_spec(resources={"limits": {"memory": "96Mi"}})
    verdict = verdict_on(failed(137, reason="OOMKilled", spec=limited))
    assert verdict.finding.cause == "out-of-memory-killed"
    assert "limit of 96Mi" in verdict.finding.sentence
    assert cause_of(failed(137, reason="OOMKilled")) == "node-out-of-memory"
    assert (
        cause_of(failed(137, reason="OOMKilled", spec=pod_spec() | {"resources": {"limits": {"memory": "1Gi"}}}))
        == "out-of-memory-killed"
    )


LOW_MEMORY = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi. Container runner was using 60Gi, request is 16Gi, has larger consumption of memory. "


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"reason": "Evicted", "message": LOW_MEMORY, "conditions": [condition("DisruptionTarget", "TerminationByKubelet", LOW_MEMORY)]}, "evicted"),
        ({"reason": "Evicted", "message": "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi. "}, "evicted"),
        ({"reason": "Evicted", "message": "The node had condition: [DiskPressure]. "}, "evicted"),
        ({"reason": "Evicted", "message": "The node was low on resource: pids. "}, "evicted"),
        ({"reason": "Evicted", "message": 'Usage of EmptyDir volume "shm" exceeds the limit "1Gi". '}, "shared-memory-full"),
        ({"reason": "Evicted", "message": 'Usage of EmptyDir volume "scratch" exceeds the limit "50Gi". '}, "disk-limit"),
        ({"reason": "Evicted", "message": "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. "}, "disk-limit"),
        ({"reason": "Evicted", "message": 'Container runner exceeded its local ephemeral storage limit "10Gi". '}, "disk-limit"),
        ({"conditions": [condition("DisruptionTarget", "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod")]}, "preempted"),
        ({"conditions": [condition("DisruptionTarget", "EvictionByEvictionAPI", "Eviction API: evicting")]}, "drained"),
        ({"conditions": [condition("DisruptionTarget", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")]}, "node-lost"),
        ({"conditions": [condition("DisruptionTarget", "DeletionByPodGC", "PodGC: node no longer exists")]}, "node-lost"),
        ({"conditions": [condition("DisruptionTarget", "SomethingOf2027", "?")]}, "disrupted"),
        ({"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."}, "drained"),
        ({"reason": "NodeLost"}, "node-lost"),
        ({"reason": "UnexpectedAdmissionError", "message": "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 1, Available: 0, which is unexpected"}, "node-refused"),
        ({"reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu, requested: 8000, used: 2000, capacity: 8000"}, "node-refused"),
        ({"reason": "NodeAffinity", "message": "Pod was rejected: Predicate NodeAffinity failed"}, "node-refused"),
        ({"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline"}, "disrupted"),
        ({}, "node-lost"),
    ],
)  # fmt: skip
def test_a_pod_that_the_cluster_ended_is_not_blamed_on_the_run(status, cause):
    assert cause_of(pod(node="node-a", phase="Failed", **status)) == cause


def test_disruptions_are_retried_by_themselves():
    drained = pod(
        node="node-a",
        phase="Failed",
        conditions=[condition("DisruptionTarget", "EvictionByEvictionAPI", "Eviction API: evicting")],
    )
    verdict = verdict_on(drained)
    assert verdict.finding.severity == "warning"
    assert "tried again by itself" in verdict.finding.remedy


def test_an_unknown_container_status_is_a_lost_node_and_old_events_change_nothing():
    gone = failed(137, reason="ContainerStatusUnknown")
    old = event(gone, "FailedMount", 'MountVolume.SetUp failed for volume "x" : secret "y" not found')
    assert cause_of(gone, events=[old]) == "node-lost"


def test_the_runners_last_word_is_said_once():
    finding = verdict_on(failed(66, termination_message(66, "no such model"))).finding
    assert finding.evidence == ("pod nightly-0123456789-0-abcde (node node-a): exit code 66",)
    assert "RuntimeError: it broke" in verdict_on(failed(1, "RuntimeError: it broke")).finding.evidence[0]


def test_where_no_other_try_comes_none_is_promised():
    broken = failed(69, termination_message(69, "the device failed"))
    assert "it is tried again" in verdict_on(broken).finding.remedy
    over = job(
        status={"failedIndexes": "0"}, conditions=[condition("Failed", "FailedIndexes", "Job has failed indexes")]
    )
    for given_up in (over, job(completions=2, status={"failedIndexes": "0"})):
        remedy = verdict_on(broken, the_job=given_up).finding.remedy
        assert "tried again" not in remedy
        assert remedy.endswith("specbatch retry nightly -n ml")


def test_a_volume_that_may_not_be_written_names_the_user_and_fs_group():
    remedy = verdict_on(failed(74, termination_message(74, "Permission denied", where="/results"))).finding.remedy
    assert "user and group 10001" in remedy
    assert "fsGroup" in remedy


def test_the_end_of_a_log_is_shown_without_a_line_that_was_cut():
    cut = '_tokens": 900, "tokens_per_second": 5.0}'
    message = f'{cut}\n{{"event": "step", "message": "loading"}}\nSegmentation fault\n{{"event": "progr'
    [line] = verdict_on(failed(139, message)).finding.evidence
    assert line.endswith("exit code 139: loading Segmentation fault")
