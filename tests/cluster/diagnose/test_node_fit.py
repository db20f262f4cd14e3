import pytest

from specbatch.cluster.diagnose.nodes import Node, requirements, tolerates

TAINT = {"key": "dedicated", "value": "batch", "effect": "NoSchedule"}


def node(name="a", *, taints=(), **labels):
    return Node({"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}})


def affinity(*expressions, fields=()):
    term = {"matchExpressions": list(expressions), "matchFields": list(fields)}
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    }


@pytest.mark.parametrize(
    ("toleration", "does"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"key": "dedicated", "value": "batch"}, True),
        ({"key": "dedicated", "value": "batch", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "other"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_toleration_is_for_its_key_value_and_effect(toleration, does):
    assert tolerates(toleration, TAINT) is does
    assert (node(taints=[TAINT]).untolerated({"tolerations": [toleration]}) == []) is does


def test_preferences_and_the_taint_of_a_cordoned_node_keep_nobody_away():
    soft = {"key": "x", "effect": "PreferNoSchedule"}
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    assert node(taints=[soft, cordoned]).untolerated({}) == []


@pytest.mark.parametrize(
    ("expression", "does"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "In", "values": ["c"]}, False),
        ({"key": "zone", "operator": "NotIn", "values": ["c"]}, True),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "rack", "operator": "DoesNotExist"}, True),
        ({"key": "rack", "operator": "Exists"}, False),
        ({"key": "memory", "operator": "Gt", "values": ["40"]}, True),
        ({"key": "memory", "operator": "Lt", "values": ["40"]}, False),
        ({"key": "zone", "operator": "Gt", "values": ["40"]}, False),
    ],
)
def test_affinity_is_read_as_the_scheduler_does(expression, does):
    assert node(zone="a", memory="80").selected(affinity(expression)) is does


def test_an_empty_term_matches_nothing_and_a_field_the_node_by_its_name():
    assert not node().selected(affinity())
    field = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    assert node("a").selected(affinity(fields=[field]))
    assert not node("b").selected(affinity(fields=[field]))


def test_a_selector_wants_every_label():
    spec = {"nodeSelector": {"zone": "a", "disk": "ssd"}}
    assert node(zone="a", disk="ssd").selected(spec)
    assert not node(zone="a").selected(spec)
    assert requirements(spec) == [[("zone", "In", ["a"]), ("disk", "In", ["ssd"])]]
