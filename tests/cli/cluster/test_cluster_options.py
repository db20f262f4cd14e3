"""--context, --namespace and --kubeconfig mean the same on every command that talks to a cluster."""

import pytest
from typer.main import get_command

from specbatch.cli.cluster.cluster_options import ClusterOptions
from specbatch.cli.main import app
from specbatch.cli.sources import is_folder

COMMANDS = get_command(app).commands
ON_CLUSTERS = (
    "validate", "fetch", "doctor", "submit", "list", "status", "why", "logs", "events", "wait", "suspend", "resume", "cancel", "retry", "delete", "collect", "reshard",
)  # fmt: skip


@pytest.mark.parametrize("name", ON_CLUSTERS)
def test_a_command_on_a_cluster_has_all_three(name):
    options = {option for one in COMMANDS[name].params for option in one.opts}
    assert {"--context", "--namespace", "-n", "--kubeconfig"} <= options
    assert not any("options" in option for option in options)


def test_no_other_command_asks_for_a_kubeconfig():
    asking = {name for name, one in COMMANDS.items() if any("--kubeconfig" in param.opts for param in one.params)}
    assert asking == set(ON_CLUSTERS)


@pytest.mark.parametrize(
    ("source", "options", "folder"),
    [
        ("s3://b/run", ClusterOptions(namespace="ml"), True),
        ("results/nightly", ClusterOptions(), True),
        ("results/nightly", ClusterOptions(namespace="ml"), False),
        ("job/nightly-1a2b", ClusterOptions(), False),
        ("job/nightly.yaml", ClusterOptions(), False),
        ("nightly", ClusterOptions(), False),
    ],
)
def test_a_source_is_a_folder_or_a_run_on_the_cluster(source, options, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_folder(source, options) == folder


def test_the_options_come_back_in_the_commands_to_type_next(api):
    cluster, _ = ClusterOptions(context="test", namespace="ml", kubeconfig=api.kubeconfig).connect()
    ends = f"-n ml --context test --kubeconfig {api.kubeconfig}"
    assert cluster.flags.command("logs -f", "nightly") == f"specbatch logs -f nightly {ends}"
    assert cluster.flags.kubectl("get", "pods") == f"kubectl {ends} get pods"
