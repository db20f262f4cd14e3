import pytest

from tests.cluster.diagnose.objects import cause_of, event, failed, verdict_on, waiting

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
        ('Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "nvidia" is configured', "runtime-handler-missing"),
        ("Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox: plugin type=calico failed (add)", "sandbox-failed"),
    ],
)  # fmt: skip
def test_a_sandbox_that_cannot_be_made(message, cause):
    creating = waiting("ContainerCreating")
    refused = event(creating, "FailedCreatePodSandBox", message)
    assert cause_of(creating, events=[refused]) == cause
    assert cause_of(creating, events=[refused, event(creating, "Pulling", "", seconds_ago=2)]) == "pulling"
