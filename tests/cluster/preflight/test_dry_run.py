"""The server-side dry run, and the diff that is made of it."""

import pytest

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS
from specbatch.cluster.preflight.checks import RefusedError
from specbatch.cluster.preflight.dry_run import dry_run
from specbatch.cluster.preflight.permissions import Uses
from specbatch.cluster.submit.checks import SubmitChecks
from specbatch.errors import ClusterError
from tests.cluster.submitting import parsed, put_claim, put_node, rendered, submitted

DRY = r"dryRun=All"


def problems(api, level="error"):
    return [str(finding) for finding in dry_run(api.cluster(), rendered()).findings if finding.severity == level]


def test_nothing_is_kept_and_everything_is_strict(api):
    assert dry_run(api.cluster(), rendered()).findings == []
    assert [api.objects(kind) for kind in (JOBS, CONFIG_MAPS, PODS)] == [[], [], []]
    queries = [query for method, _, query in api.requests if method == "POST"]
    assert len(queries) == 3
    assert all((query["dryRun"], query["fieldValidation"]) == ("All", "Strict") for query in queries)


def test_an_unknown_field_is_an_error(api):
    message = (
        'Job in version "v1" cannot be handled as a Job: strict decoding error: unknown field "spec.template.spec.nope"'
    )
    api.fail("POST", rf"/jobs\?.*{DRY}", status=400, reason="BadRequest", message=message)
    [problem] = problems(api)
    assert 'unknown field "spec.template.spec.nope"' in problem


def test_pods_that_the_namespace_would_refuse_are_an_error(api):
    message = (
        'pods "nightly-0" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes (volume "results")'
    )
    api.fail("POST", rf"/pods\?.*{DRY}", status=403, reason="Forbidden", message=message)
    [problem] = problems(api)
    assert "hostPath volumes" in problem
    assert "pod-security.kubernetes.io/enforce" in problem


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no PriorityClass with name low was found", "correct spec.job.priorityClassName"),
        ('pod rejected: RuntimeClass "nvidia" not found', "correct spec.job.runtimeClassName"),
        (
            'error looking up service account default/x: serviceaccount "x" not found',
            "kubectl -n default create serviceaccount x",
        ),
    ],
)
def test_names_that_do_not_exist_are_an_error_with_their_field(api, said, told):
    message = f'pods "nightly-0" is forbidden: {said}'
    api.fail("POST", rf"/pods\?.*{DRY}", status=403, reason="Forbidden", message=message)
    [problem] = problems(api)
    assert told in problem


def test_a_quota_that_is_used_up_is_a_warning_and_one_that_never_suffices_an_error(api):
    message = 'pods "nightly-0" is forbidden: exceeded quota: gpus, requested: nvidia.com/gpu=8, used: nvidia.com/gpu={}, limited: nvidia.com/gpu={}'
    for used, limit, level in ((8, 8, "warning"), (0, 4, "error")):
        api.fail("POST", rf"/pods\?.*{DRY}", status=403, reason="Forbidden", message=message.format(used, limit))
        [problem] = problems(api, level)
        assert f"used: nvidia.com/gpu={used}, limited: nvidia.com/gpu={limit}" in problem


def test_pods_that_may_not_be_created_are_not_tried(api):
    api.deny("create", "pods")
    assert problems(api) == problems(api, "warning") == []


def test_a_webhook_that_knows_no_dry_run_is_a_warning(api):
    message = 'admission webhook "a.b" does not support dry run'
    api.fail("POST", rf"/jobs\?.*{DRY}", status=400, reason="BadRequest", message=message)
    [problem] = problems(api, "warning")
    assert "webhook" in problem


def test_missing_rights_are_what_they_are(api):
    api.deny("create", "jobs")
    with pytest.raises(ClusterError, match="not permitted to create jobs"):
        dry_run(api.cluster(), rendered())


def test_a_job_that_is_to_be_replaced_by_its_own_name_is_tried_under_another(api):
    submitted(api)
    tried = dry_run(api.cluster(), rendered())
    assert tried.findings == []
    assert tried.job["metadata"]["name"] == rendered().name


def checks(api, *overrides, skip=False):
    return SubmitChecks(api.cluster(), parsed(*overrides), rendered(*overrides), Uses(), skip=skip)


def test_checks_stop_before_the_dry_run_and_can_be_skipped(api):
    with pytest.raises(RefusedError, match="1 problem"):
        checks(api).run()
    assert not any("dryRun" in query for _, _, query in api.requests)
    checks(api, skip=True).run()
    assert any("dryRun" in query for _, _, query in api.requests)


def test_missing_rights_come_together_when_jobs_cannot_even_be_listed(api):
    api.deny("list", "jobs")
    api.deny("create", "configmaps")
    with pytest.raises(RefusedError, match="1 problem") as refused:
        checks(api).look()
    assert "list jobs; create configmaps" in str(refused.value)


def test_the_diff_shows_what_differs_and_nothing_of_the_servers(api):
    put_claim(api)
    put_node(api, "node-a")
    submitted(api)
    changed = checks(api, "decoding.maxNewTokens=128", "job.completions=4")
    lines = changed.diff(changed.look()).splitlines()
    assert "-    maxNewTokens: 64" in [line.replace("      ", "    ") for line in lines]
    assert "-  completions: 3" in lines
    assert "+  completions: 4" in lines
    for word in ("uid", "resourceVersion", "suspend", "creationTimestamp", "ownerReferences"):
        assert word not in "\n".join(lines)


def test_of_the_same_spec_there_is_no_diff_and_of_a_new_run_all_is_new(api):
    put_claim(api)
    put_node(api, "node-a")
    new = checks(api)
    assert all(line.startswith(("+", "@@", "---")) for line in new.diff(new.look()).splitlines())
    submitted(api)
    assert checks(api).diff(checks(api).look()) == ""
