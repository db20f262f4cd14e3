"""The Role of k8s/ allows everything that the commands do, and nothing that none of them does."""

from pathlib import Path

import pytest
import yaml

from specbatch.cluster.preflight.permissions import (
    COMMANDS,
    HELPFUL,
    OF_KUEUE,
    Permission,
    all_needed,
    listed_rights,
)

K8S = Path(__file__).parents[3] / "k8s"


def rights(file, kind):
    role = next(one for one in yaml.safe_load_all((K8S / file).read_text()) if one["kind"] == kind)
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def keys(permissions):
    return {(one.kind.group, one.resource, one.verb) for one in permissions}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_role_of_a_submitter_is_enough_for_every_command(command):
    assert keys(COMMANDS[command]) <= rights("submitter.yaml", "Role")


def test_the_role_has_kueue_and_opens_nothing_that_no_command_uses():
    role = rights("submitter.yaml", "Role")
    assert keys(OF_KUEUE) <= role
    used = {resource for _, resource, _ in keys([*all_needed(), *OF_KUEUE])}
    assert {resource for _, resource, _ in role} == used


def test_what_only_helps_is_in_the_cluster_reader():
    assert keys(HELPFUL) <= rights("components/cluster-reader/cluster-reader.yaml", "ClusterRole")


def test_permissions_are_told_by_resource():
    log = Permission("get", "pods/log")
    assert (
        listed_rights([Permission("create", "jobs"), Permission("patch", "jobs"), log])
        == "create, patch jobs; get pods/log"
    )
    assert listed_rights([Permission("list", "pods", all_namespaces=True)]) == "list pods everywhere"
