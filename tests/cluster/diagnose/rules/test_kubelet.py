"""What the kubelet says of pods that have a node and do not start there."""

import pytest

from tests.cluster.diagnose.objects import cause_of, event, failed, verdict_on, waiting

IMAGE = "ghcr.io/specbatch/runner:0.1.0"
PULL = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (f"{PULL}{IMAGE}: not found", "image-not-found"),
        (f"{PULL}failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token?scope=x: 403 Forbidden", "image-denied"),
        (f"{PULL}pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed", "image-denied"),
        (f"{PULL}unexpected status from HEAD request to https://ghcr.io/v2/x/manifests/0: 401 Unauthorized", "image-denied"),
        (f'{PULL}failed to do request: Head "https://ghcr.io/v2/x/manifests/0.1.0": dial tcp: lookup ghcr.io on 10.0.0.10:53: no such host', "image-registry-unreachable"),
        (f'{PULL}failed to do request: Head "https://ghcr.io/v2/x/manifests/0.1.0": dial tcp 10.1.2.3:443: i/o timeout', "image-registry-unreachable"),
        (f'{PULL}failed to do request: Head "https://ghcr.io/v2/x": tls: failed to verify certificate: x509: certificate signed by unknown authority', "image-registry-certificate"),
        (f"{PULL}failed to copy: httpReadSeeker: failed open: unexpected status code 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit", "image-rate-limited"),
        (f'failed to pull and unpack image "{IMAGE}": no match for platform in manifest: not found', "image-architecture"),
        ("failed to extract layer sha256:403: write /var/lib/containerd/x: no space left on device", "node-disk-full"),
        ("something that nobody knew in 2026", "image-pull"),
    ],
)  # fmt: skip
def test_what_the_container_runtime_says_of_a_pull_is_told_apart(said, cause):
    first = waiting("ErrImagePull", f"rpc error: code = NotFound desc = {said}")
    verdict = verdict_on(first)
    assert verdict.finding.cause == cause
    assert IMAGE in verdict.finding.sentence
    # Since 1.32 a back-off repeats the error; before, an event has it.
    assert cause_of(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: {said}')) == cause
    silent = waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')
    failed = event(
        silent, "Failed", f'Failed to pull image "{IMAGE}": rpc error: code = Unknown desc = {said}', seconds_ago=90
    )
    back_off = event(silent, "Failed", "Error: ImagePullBackOff", seconds_ago=5)
    assert cause_of(silent, events=[back_off, failed]) == cause


def test_a_pull_secret_that_is_missing_is_the_cause_not_the_registry():
    denied = waiting("ErrImagePull", f"{PULL}unexpected status from HEAD request: 401 Unauthorized")
    denied["spec"]["imagePullSecrets"] = [{"name": "registry-login"}]
    message = (
        "Unable to retrieve some image pull secrets (registry-login); attempting to pull the image may not succeed."
    )
    verdict = verdict_on(denied, events=[event(denied, "FailedToRetrieveImagePullSecret", message)])
    assert verdict.finding.cause == "image-pull-secret-missing"
    assert "create secret docker-registry registry-login" in verdict.finding.remedy


def test_images_that_are_never_pulled_or_no_images():
    never = waiting("ErrImageNeverPull", f'Container image "{IMAGE}" is not present with pull policy of Never')
    assert cause_of(never) == "image-never-pull"
    invalid = 'Failed to apply default image tag "Runner:1": couldn\'t parse image name "Runner:1": invalid reference format: repository name must be lowercase'
    assert cause_of(waiting("InvalidImageName", invalid)) == "image-name-invalid"


def test_a_long_pull_is_normal():
    creating = waiting("ContainerCreating")
    verdict = verdict_on(creating, events=[event(creating, "Pulling", f'Pulling image "{IMAGE}"', seconds_ago=150)])
    assert (verdict.finding.cause, verdict.finding.severity) == ("pulling", "warning")
    pulled = event(creating, "Pulled", f'Successfully pulled image "{IMAGE}" in 2m', seconds_ago=5)
    assert cause_of(creating, events=[event(creating, "Pulling", "", seconds_ago=150), pulled]) == "starting"


NO_PYTHON = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start "
    'container process: error during container init: exec: "python": executable file not found in $PATH: unknown'
)


@pytest.mark.parametrize(
    ("message", "cause", "says"),
    [
        ('secret "hf" not found', "secret-missing", "hf"),
        ("couldn't find key token in Secret ml/hf", "secret-key-missing", "the Secret hf has no key token"),
        ('configmap "settings" not found', "config-map-missing", "settings"),
        ("couldn't find key lr in ConfigMap ml/settings", "secret-key-missing", "the ConfigMap settings has no key lr"),
        (
            'container has runAsNonRoot and image will run as root (pod: "x", container: runner)',
            "image-runs-as-root",
            "root",
        ),
        ("something that nobody knew in 2026", "container-config", "as the spec asks"),
    ],
)
def test_what_keeps_the_kubelet_from_making_a_container(message, cause, says):
    verdict = verdict_on(waiting("CreateContainerConfigError", message))
    assert verdict.finding.cause == cause
    assert says in verdict.finding.sentence


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (NO_PYTHON, "command-not-found"),
        ("OCI runtime create failed: runc create failed: unable to start container process: exec /usr/bin/python: exec format error", "image-architecture"),
        ("OCI runtime create failed: nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", "gpu-runtime"),
        ("failed to inject CDI devices: unresolvable CDI devices nvidia.com/gpu=0: CDI device injection failed", "gpu-runtime"),
        ("OCI runtime create failed: something else", "container-start-failed"),
    ],
)  # fmt: skip
def test_a_container_that_does_not_start(message, cause):
    assert cause_of(waiting("RunContainerError", message)) == cause
    assert cause_of(failed(128, message, reason="StartError")) == cause  # as a pod that is never restarted ends


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ('Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "nvidia" is configured', "sandbox-failed"),
        ("Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox: plugin type=calico failed (add)", "sandbox-failed"),
    ],
)  # fmt: skip
def test_a_sandbox_that_cannot_be_made(message, cause):
    creating = waiting("ContainerCreating")
    refused = event(creating, "FailedCreatePodSandBox", message)
    assert cause_of(creating, events=[refused]) == cause
    assert cause_of(creating, events=[refused, event(creating, "Pulling", "", seconds_ago=2)]) == "pulling"
