from specbatch.cluster.diagnose.scheduler_message import parse_message

LONG = (
    "0/6 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint "
    "{node-role.kubernetes.io/control-plane: }, 1 node(s) had untolerated taint {dedicated: batch}, 2 node(s) didn't match Pod's node "
    "affinity/selector. preemption: 0/6 nodes are available: 2 No preemption victims found for incoming pod, 4 Preemption is not helpful "
    "for scheduling."
)


def test_every_part_of_the_sentence_is_told_apart():
    message = parse_message(LONG)
    assert message.nodes == 6
    assert [(part.nodes, part.resource) for part in message.parts if part.resource] == [
        (1, "cpu"),
        (2, "nvidia.com/gpu"),
    ]
    assert [part.taint for part in message.parts if part.is_taint] == [
        ("node-role.kubernetes.io/control-plane", ""),
        ("dedicated", "batch"),
    ]
    assert (message.victimless, message.helpless) == (2, 4)
    assert message.count("affinity/selector") == 2


def test_a_taint_may_be_without_its_name_since_1_34():
    message = parse_message(
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 3 Insufficient nvidia.com/gpu. no new claims to deallocate, "
        "preemption: 0/4 nodes are available: 1 Preemption is not helpful for scheduling, 3 No preemption victims found for incoming pod."
    )
    assert [(part.nodes, part.text) for part in message.parts] == [
        (1, "node(s) had untolerated taint(s)"),
        (3, "Insufficient nvidia.com/gpu"),
    ]
    assert message.parts[0].is_taint
    assert message.parts[0].taint is None
    assert (message.victimless, message.helpless) == (3, 1)


def test_a_reason_that_is_no_nodes_is_a_part_of_its_own():
    message = parse_message(
        '0/3 nodes are available: persistentvolumeclaim "specbatch-results" not found. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.'
    )
    assert [part.text for part in message.parts] == ['persistentvolumeclaim "specbatch-results" not found']


def test_any_other_sentence_is_one_part_and_none_is_none():
    assert [part.text for part in parse_message('persistentvolumeclaim "x" not found').parts] == [
        'persistentvolumeclaim "x" not found'
    ]
    assert parse_message("").parts == []
