import pytest

from tests.cluster.diagnose.objects import event, failed, job, running, verdict_on

FORBIDDEN = 'Error creating: pods "nightly-0123456789-0-x7k2p" is forbidden: '


def refused_by(message, *pods, **more):
    the_job = job(completions=4, **more)
    return verdict_on(*pods, the_job=the_job, events=[event(the_job, "FailedCreate", message, seconds_ago=5)])


@pytest.mark.parametrize(
    ("message", "cause", "says"),
    [
        (
            (f"{FORBIDDEN}exceeded quota: team-a, requested: limits.memory=64Gi,requests.nvidia.com/gpu=16, used: limits.memory=0,requests.nvidia.com/gpu=0, "
            "limited: limits.memory=1Ti,requests.nvidia.com/gpu=8"),
            "quota-exceeded",
            "is smaller than a pod: requested: limits.memory=64Gi,requests.nvidia.com/gpu=16, used: ",
        ),
        (f"{FORBIDDEN}failed quota: team-a: must specify limits.cpu for: runner; limits.memory for: runner", "quota-wants-resources", "limits.cpu for: runner"),
        (f"{FORBIDDEN}[maximum cpu usage per Container is 4, but limit is 8, maximum memory usage per Container is 8Gi, but limit is 64Gi]", "limit-range", "maximum cpu usage per Container is 4"),
        (f"{FORBIDDEN}minimum memory usage per Container is 1Gi, but request is 100Mi", "limit-range", "minimum memory usage"),
        (
            f'{FORBIDDEN}violates PodSecurity "restricted:latest": restricted volume types (volume "results" uses restricted volume type "hostPath")',
            "pod-security",
            "refuses the pods (PodSecurity restricted",
        ),
        (f'{FORBIDDEN}error looking up service account ml/runner: serviceaccount "runner" not found', "service-account-missing", "runner"),
        (f"{FORBIDDEN}no PriorityClass with name batch-low was found", "priority-class-missing", "batch-low"),
        (f'{FORBIDDEN}pod rejected: RuntimeClass "nvidia" not found', "runtime-class-missing", "nvidia"),
        ('Error creating: admission webhook "validate.kyverno.svc-fail" denied the request: resource Pod/ml/x was blocked: no :latest tags', "admission-denied", "no :latest tags"),
        (f"{FORBIDDEN}ValidatingAdmissionPolicy 'images.example.com' with binding 'images' denied request: only registry.example.com", "admission-denied", "only registry.example.com"),
        ('Error creating: Internal error occurred: failed calling webhook "inject.istio.io": failed to call webhook: Post "https://x": context deadline exceeded', "admission-unreachable", "inject.istio.io"),
        (f"{FORBIDDEN}unable to create new content in namespace ml because it is being terminated", "namespace-deleting", "namespace ml is being deleted"),
        ("Error creating: something that nobody knew in 2026", "creation-refused", "cannot make the pods"),
    ],
)  # fmt: skip
def test_a_refusal_of_the_control_plane_is_told_apart(message, cause, says):
    finding = refused_by(message).finding
    assert finding.cause == cause
    assert says in finding.sentence
    assert finding.shards == (0, 1, 2, 3)


def test_a_quota_that_is_used_up_by_others_only_takes_time():
    message = f"{FORBIDDEN}exceeded quota: team-a, requested: requests.nvidia.com/gpu=4, used: requests.nvidia.com/gpu=6, limited: requests.nvidia.com/gpu=8"
    finding = refused_by(message, running(0)).finding
    assert (finding.severity, finding.shards) == ("warning", (1, 2, 3))
    assert "wait until other pods" in finding.remedy


def test_shards_beyond_the_parallelism_are_not_missing():
    message = f"{FORBIDDEN}no PriorityClass with name x was found"
    assert refused_by(message, parallelism=2).finding.shards == (0, 1)


def test_a_host_path_is_answered_with_a_claim():
    message = f'{FORBIDDEN}violates PodSecurity "baseline:latest": hostPath volumes (volume "results")'
    assert "claim instead of hostPath" in refused_by(message).finding.remedy


def test_a_refusal_that_was_overcome_is_no_cause():
    the_job = job(completions=1)
    old = event(the_job, "FailedCreate", f"{FORBIDDEN}no PriorityClass with name x was found", seconds_ago=500)
    assert verdict_on(failed(1, "boom"), the_job=the_job, events=[old]).finding.cause == "error"
