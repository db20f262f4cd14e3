"""Every rule between fields: what breaks it, the path it names, and the words it says."""

from __future__ import annotations

import pytest

from specbatch.api.rules import RULES
from tests.api.specs import job, problems, text

PAIR = "drafter: {model: Qwen/Qwen3-1.7B}"
RATIO = "gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 6, drafter: 2}"
NGRAM = "drafter: {method: ngram}"


def placement(fields: str) -> str:
    return f"{{{PAIR}, placement: {{{fields}}}}}"


BROKEN = [
    # ratio and its strategy
    (placement("gpus: 8, strategy: multi_gpu_ratio"), "spec.placement.ratio", "needs a ratio"),
    (
        placement("gpus: 8, strategy: auto, ratio: {target: 6, drafter: 2}"),
        "spec.placement.ratio",
        "only for strategy multi_gpu_ratio, but placement.strategy is auto",
    ),
    # engines
    ("engine: {options: {quantization: fp8}}", "spec.engine.options", "but engine.name is auto"),
    (
        "{target: {model: a/b, adapter: x}, engine: {name: native}}",
        "spec.target.adapter",
        "the native engine loads no adapters",
    ),
    (
        "{drafter: {model: a/b}, engine: {name: vllm}, placement: {gpus: 2, strategy: separate}}",
        "spec.placement.strategy",
        "same GPUs, but strategy is separate",
    ),
    (
        "{engine: {name: vllm}, placement: {microBatches: 2}}",
        "spec.placement.microBatches",
        "vLLM schedules by itself",
    ),
    (
        "{engine: {name: vllm}, decoding: {noRepeatNgramSize: 3}}",
        "spec.decoding.noRepeatNgramSize",
        "vLLM bans no n-grams",
    ),
    (
        "{engine: {name: vllm}, decoding: {beginSuppressTokens: [3]}}",
        "spec.decoding.beginSuppressTokens",
        "for the whole of a text",
    ),
    (
        "{engine: {name: vllm}, drafter: {method: ngram}, decoding: {logitBias: {'3': 2}}}",
        "spec.decoding.logitBias",
        "none for rows with drafts",
    ),
    (
        "{engine: {name: vllm}, drafter: {method: ngram}, decoding: {temperature: 1}, placement: {gpus: 0}}",
        "spec.decoding.temperature",
        "does not sample with drafts",
    ),
    (placement("gpus: 1, microBatches: 2"), "spec.placement.microBatches", "but gpus is 1"),
    (placement("gpus: 0, microBatches: 3"), "spec.placement.microBatches", "3 groups of rows"),
    (placement("gpus: 4, strategy: same, microBatches: 2"), "spec.placement.microBatches", "has one a replica"),
    (placement("gpus: 8, drafterReplicas: 2"), "spec.placement.drafterReplicas", "but placement.strategy is auto"),
    (placement(f"{RATIO}, drafterReplicas: 3"), "spec.placement.drafterReplicas", "choose one of 1, 2, or auto"),
    (placement(f"{RATIO}, drafterReplicas: 2, microBatches: 1"), "spec.placement.drafterReplicas", "microBatches is 1"),
    (
        f"{{drafter: {{method: eagle3, model: a/b}}, placement: {{{RATIO}, drafterReplicas: 2}}}}",
        "spec.placement.drafterReplicas",
        "so there is one",
    ),
    # the sums
    (
        placement("gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 6, drafter: 1}"),
        "spec.placement.ratio",
        "target 6 + drafter 1 = 7, but placement.gpus is 8",
    ),
    (
        placement("gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 6, drafter: 1}, replicas: 1"),
        "spec.placement.ratio",
        "or set placement.gpus to 7",
    ),
    (
        placement("gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 6, drafter: 2}, replicas: 2"),
        "spec.placement.ratio",
        "target 6 + drafter 2 = 8, but placement.gpus / placement.replicas is 8 / 2 = 4",
    ),
    (
        placement("gpus: 4, strategy: multi_gpu_ratio, ratio: {target: 6, drafter: 2}"),
        "spec.placement.ratio",
        "or set placement.gpus to 8",
    ),
    (
        placement("gpus: 1, strategy: multi_gpu_ratio, ratio: {target: 1, drafter: 1}"),
        "spec.placement.ratio",
        "use more GPUs",
    ),
    (placement("gpus: 8, strategy: separate, replicas: 2"), "spec.placement.gpus", "8 / 2 = 4"),
    (placement("gpus: 3, strategy: separate"), "spec.placement.gpus", "two GPUs a replica, but placement.gpus is 3"),
    (placement("gpus: 1, strategy: separate, replicas: 1"), "spec.placement.gpus", "two GPUs a replica"),
    (placement("gpus: 8, strategy: same, replicas: 1"), "spec.placement.replicas", "set replicas to 8 or auto"),
    (
        placement("gpus: 1, strategy: same, replicas: 2"),
        "spec.placement.replicas",
        "placement.gpus is 1 and replicas is 2",
    ),
    (placement("gpus: 8, replicas: 3"), "spec.placement.replicas", "choose one of 1, 2, 4, 8"),
    # the CPU
    (placement("gpus: 0, strategy: separate"), "spec.placement.strategy", "placement.gpus is 0 (the CPU)"),
    (placement("gpus: 0, replicas: 2"), "spec.placement.replicas", "placement.gpus is 0 (the CPU)"),
    # drafters
    ("placement: {gpus: 2, strategy: separate}", "spec.placement.strategy", "there is no drafter"),
    (f"{{{NGRAM}, placement: {{gpus: 2, strategy: separate}}}}", "spec.placement.strategy", "needs no GPU"),
    ("drafter: {dtype: bfloat16}", "spec.drafter.model", "is required with method model"),
    ("drafter: {method: ngram, model: a/b}", "spec.drafter.model", "method ngram takes no model"),
    (
        "drafter: {method: ngram, promptLookupMin: 5}",
        "spec.drafter.promptLookupMin",
        "5 is more than promptLookupMax, which is 4",
    ),
    ("drafter: {method: ngram, quantization: int8}", "spec.drafter.quantization", "method ngram has no weights"),
    (
        "drafter: {method: eagle3, model: a/b, quantization: int8}",
        "spec.drafter.quantization",
        "is for draft models, and method eagle3",
    ),
    (
        "{drafter: {model: a/b, quantization: int8}, engine: {name: vllm}}",
        "spec.drafter.quantization",
        "vLLM loads a drafter as it is stored",
    ),
    ("drafter: {method: ngram, window: 64}", "spec.drafter.window", "method ngram has no KV"),
    (
        "{drafter: {model: a/b, window: 64}, decoding: {acceptanceRule: rejection}}",
        "spec.drafter.window",
        "so would what is drawn",
    ),
    ("{drafter: {model: a/b, window: 64}, engine: {name: vllm}}", "spec.drafter.window", "see whole rows"),
    ("drafter: {method: ngram, kvDtype: fp8}", "spec.drafter.kvDtype", "method ngram has no KV"),
    ("drafter: {method: eagle3, model: a/b, kvDtype: fp8}", "spec.drafter.kvDtype", "has one layer of it"),
    ("{drafter: {model: a/b, kvDtype: fp8}, engine: {name: vllm}}", "spec.drafter.kvDtype", "as the target does"),
    (
        "{target: {model: a/b, kvDtype: fp8}, engine: {name: vllm, options: {kv_cache_dtype: fp8_e5m2}}}",
        "spec.engine.options.kv_cache_dtype",
        "target.kvDtype says fp8",
    ),
    # model references
    (
        "target: {model: 'https://huggingface.co/Qwen/Qwen3-8B/tree/main'}",
        "spec.target.model",
        "write the hub id: Qwen/Qwen3-8B",
    ),
    ("target: {model: 's3://bucket/model'}", "spec.target.model", "download it, and give the folder"),
    ("target: {model: 'embedded:traget'}", "spec.target.model", "did you mean embedded:target?"),
    ("target: {model: ./models/a, revision: main}", "spec.target.revision", "only a hub id has revisions"),
    ("drafter: {model: 'embedded:draft'}", "spec.drafter.model", "did you mean embedded:drafter?"),
    ("drafter: {model: /models/a, revision: main}", "spec.drafter.revision", "only a hub id has revisions"),
    # decoding
    ("decoding: {topK: 20}", "spec.decoding.topK", "topK 20 has no effect at temperature 0"),
    ("decoding: {topP: 0.95}", "spec.decoding.topP", "set decoding.temperature above 0"),
    ("decoding: {numSpeculativeTokens: 4}", "spec.decoding.numSpeculativeTokens", "without a drafter"),
    (
        "{decoding: {maxNewTokens: 512}, batching: {maxLength: 512}}",
        "spec.decoding.maxNewTokens",
        "512 new tokens leave no room for a prompt in batching.maxLength, which is 512",
    ),
    (
        "{decoding: {minTokens: 9, maxNewTokens: 8}}",
        "spec.decoding.minTokens",
        "9 is more than maxNewTokens, which is 8",
    ),
    (
        "{decoding: {n: 4}}",
        "spec.decoding.n",
        "n 4 gives the same text 4 times at temperature 0 (greedy)",
    ),
    # dataset
    ("dataset: {uri: a.txt, format: text, answerField: a}", "spec.dataset.answerField", "have no fields"),
    ("dataset: {uri: a, answerField: prompt}", "spec.dataset.answerField", "the same key as promptField"),
    ("dataset: {uri: a, chatTemplate: none, systemPrompt: Hi}", "spec.dataset.systemPrompt", "needs a chat template"),
    (
        "dataset: {uri: a, chatTemplate: none, enableThinking: true}",
        "spec.dataset.enableThinking",
        "needs a chat template",
    ),
    ("dataset: {uri: a, template: '{{ q'}", "spec.dataset.template", "(line 1)"),
    ('dataset: {uri: a, template: "a\\n{% if %}"}', "spec.dataset.template", "(line 2)"),
    ("dataset: {uri: a, template: '{{ q | nofilter }}'}", "spec.dataset.template", "No filter named 'nofilter'"),
    ("dataset: {uri: a, template: '{{ q | random }}'}", "spec.dataset.template", "draws at random"),
    ("dataset: {uri: a, template: '{{ lipsum() }}'}", "spec.dataset.template", "draws at random"),
    (
        "dataset: {uri: a, template: [{role: user, content: '{% for %}'}]}",
        "spec.dataset.template[0].content",
        "cannot be parsed",
    ),
    ("dataset: {uri: a, template: '{{ q }}', promptField: q}", "spec.dataset.template", "beside dataset.promptField"),
    (
        "dataset: {uri: a, template: '{{ q }}', format: sharegpt}",
        "spec.dataset.template",
        "beside dataset.format sharegpt",
    ),
    (
        "dataset: {uri: a, promptField: q, format: alpaca}",
        "spec.dataset.promptField",
        "no place in rows of dataset.format alpaca",
    ),
    (
        "dataset: {uri: a, template: [{role: user, content: '{{ q }}'}, {role: system, content: a}, {role: user, content: '{{ q }}'}]}",
        "spec.dataset.template[1].role",
        "stands first",
    ),
    ("dataset: {uri: a, template: [{role: assistant, content: a}]}", "spec.dataset.template", "nothing is asked"),
    (
        "dataset: {uri: a, template: [{role: system, content: a}, {role: user, content: '{{ q }}'}], systemPrompt: b}",
        "spec.dataset.systemPrompt",
        "a system message already",
    ),
    (
        "dataset: {uri: a, template: [{role: user, content: '{{ q }}'}], chatTemplate: none}",
        "spec.dataset.template",
        "messages need a chat template",
    ),
    ("dataset: {uri: 's3://key:secret@bucket/a'}", "spec.dataset.uri", "holds a password"),
    ("results: {publish: 's3://key:secret@bucket/a'}", "spec.results.publish", "holds a password"),
    ("dataset: {uri: 'simplecache::https://me:secret@host/a'}", "spec.dataset.uri", "holds a password"),
    ("results: {publish: 'https://host/a?sig=abc'}", "spec.results.publish", "holds a password, key or signature"),
    ("results: {partSize: 256m}", "spec.results.partSize", "256m is 0.256 bytes"),
    ("results: {partSize: 1000}", "spec.results.partSize", "at least 4Ki; a megabyte is 1M"),
    ("results: {dir: 's3://bucket/a'}", "spec.results.dir", "the URI in results.publish"),
    # the Kubernetes job
    ("job: {env: {HF_TOKEN: abc}}", "spec.job.env.HF_TOKEN", "secretEnv: {HF_TOKEN: {name: my-secret"),
    ("job: {env: {AWS_SECRET_ACCESS_KEY: abc}}", "spec.job.env.AWS_SECRET_ACCESS_KEY", "looks like a secret"),
    ("job: {env: {X: hf_abcdefghijklmnopqrstuvwx}}", "spec.job.env.X", "looks like a secret"),
    ("job: {env: {JOB_COMPLETION_INDEX: '1'}}", "spec.job.env.JOB_COMPLETION_INDEX", "Kubernetes sets it"),
    (
        "job: {podTemplate: {spec: {containers: [{name: runner, env: [{name: HF_TOKEN, value: abc}]}]}}}",
        "spec.job.podTemplate",
        "the value of HF_TOKEN looks like a secret",
    ),
    (
        "job: {podTemplate: {spec: {hostPID: true}}}",
        "spec.job.podTemplate.spec.hostPID",
        "set job.allowPrivilegedPodTemplate: true",
    ),
    (
        "job: {env: {A: b}, secretEnv: {A: {name: s, key: k}}}",
        "spec.job.secretEnv.A",
        "A is in job.env as well",
    ),
    ("job: {completions: 2, parallelism: 3}", "spec.job.parallelism", "there are only 2 (job.completions)"),
    (
        "job: {resources: {limits: {nvidia.com/gpu: 8}}}",
        'spec.job.resources.limits["nvidia.com/gpu"]',
        "set placement.gpus to 8",
    ),
    (
        "job: {resources: {requests: {memory: 2Gi}, limits: {memory: 500M}}}",
        "spec.job.resources.requests.memory",
        "2Gi is more than the limit, which is 500M",
    ),
    (
        "{results: {fsyncSeconds: 60}, job: {terminationGracePeriodSeconds: 60}}",
        "spec.job.terminationGracePeriodSeconds",
        "60 is not longer than results.fsyncSeconds",
    ),
    ("job: {tolerations: [{key: a, operator: Exists, value: b}]}", "spec.job.tolerations[0].value", "takes no value"),
    ("job: {tolerations: [{value: b}]}", "spec.job.tolerations[0].key", "is required with operator Equal"),
    (
        "job: {tolerations: [{key: a, tolerationSeconds: 3}]}",
        "spec.job.tolerations[0].tolerationSeconds",
        "needs effect NoExecute",
    ),
    ("job: {volumes: {data: {}}}", "spec.job.volumes.data", "but none is given"),
    (
        "job: {volumes: {data: {claimName: a, hostPath: /b}}}",
        "spec.job.volumes.data",
        "claimName and hostPath are given",
    ),
    (
        "job: {volumes: {data: {claimName: a}, results: {claimName: b, mountPath: /data/}}}",
        "spec.job.volumes.data.mountPath",
        "/data is taken by spec.job.volumes.results",
    ),
    (
        "job: {volumes: {extra: [{name: a, mountPath: /a, emptyDir: {}}, {name: a, mountPath: /b, emptyDir: {}}]}}",
        "spec.job.volumes.extra[1].name",
        "a is there twice",
    ),
    ("job: {volumes: {results: {emptyDir: {}}}}", "spec.job.volumes.results", "deleted with the pod"),
]


@pytest.mark.parametrize(("spec", "path", "words"), BROKEN, ids=[f"{p}-{i}" for i, (_, p, _) in enumerate(BROKEN)])
def test_a_broken_rule_is_one_problem_with_its_path_and_a_remedy(spec, path, words):
    found = problems(text(spec))
    assert [problem.path for problem in found] == [path]
    assert words in str(found[0])
    assert found[0].remedy


FINE = [
    placement("gpus: 8"),
    placement("gpus: 8, strategy: same"),
    placement("gpus: 8, strategy: same, replicas: 8"),
    placement("gpus: 8, strategy: separate"),
    placement("gpus: 8, strategy: separate, replicas: 4"),
    placement("gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 6, drafter: 2}"),
    placement("gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 3, drafter: 1}, replicas: 2"),
    placement("gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 3, drafter: 1}, replicas: auto"),
    placement("gpus: 0, strategy: same, replicas: 1"),
    f"{{{NGRAM}, decoding: {{numSpeculativeTokens: 8}}}}",
    "decoding: {numSpeculativeTokens: 0}",
    f"{{{PAIR}, decoding: {{numSpeculativeTokens: 12}}}}",  # maxSpeculativeTokens bounds auto alone
    "decoding: {temperature: 0.6, topK: 20, topP: 0.95}",
    "dataset: {uri: 's3://bucket/a@b:c.jsonl'}",
    "dataset: {uri: a, template: '{{ q }}', systemPrompt: Be brief.}",
    "dataset: {uri: a, template: [{role: user, content: '{{ q }}'}, {role: assistant, content: 'Well,'}], systemPrompt: Be brief.}",
    "job: {env: {TOKENIZERS_PARALLELISM: 'false', AWS_WEB_IDENTITY_TOKEN_FILE: /var/run/token, HF_TOKEN: ''}}",
    "job: {resources: {requests: {cpu: 500m}, limits: {cpu: 1}}}",
    "{results: {dir: /results/a}, job: {volumes: {results: {claimName: a}}}}",
    "{results: {publish: 's3://b/c'}, job: {volumes: {results: {emptyDir: {}}}}}",
    "job: {tolerations: [{operator: Exists}, {key: a, value: b, effect: NoExecute, tolerationSeconds: 3}]}",
]


@pytest.mark.parametrize("spec", FINE)
def test_what_keeps_the_rules_is_accepted(spec):
    assert job(spec).metadata.name == "nightly"


@pytest.mark.slow
def test_every_rule_is_broken_by_some_line_of_the_table():
    broken = set()
    for spec, _, _ in BROKEN:
        # The minimum is valid, so what is wrong with the whole is what some rule found.
        import yaml

        from specbatch.api import SpecBatchJob

        parsed = SpecBatchJob.model_validate(yaml.safe_load(text(spec)))
        broken |= {rule for rule in RULES if list(rule.check(parsed))}
    assert broken == set(RULES)


def test_a_run_on_this_machine_may_write_where_no_pod_would_find_a_volume():
    assert not problems(text("{results: {dir: /scratch}, job: {volumes: {results: {claimName: a}}}}"))


def test_rules_are_reported_together_with_each_other_and_with_field_errors():
    found = problems(text("{decoding: {topK: 20, seed: -1}, results: {dir: 's3://a/b'}, job: {completions: x}}"))
    assert {problem.path for problem in found} == {
        "spec.decoding.topK",
        "spec.decoding.seed",
        "spec.results.dir",
        "spec.job.completions",
    }


def test_a_rule_keeps_silent_where_a_field_it_reads_is_wrong_already():
    found = problems(text(placement("gpus: eight, strategy: same, replicas: 4")))
    assert [problem.path for problem in found] == ["spec.placement.gpus"]


def test_a_rule_keeps_silent_where_a_field_it_reads_is_misspelt():
    found = problems(text(placement("gpus: 8, strategy: multi_gpu_ratio, ratoi: {target: 6, drafter: 2}")))
    assert [str(problem).splitlines()[1] for problem in found] == ["  remedy: did you mean ratio?"]


def test_a_secret_is_never_repeated_in_the_message():
    found = problems(text("{dataset: {uri: 's3://key:hunter2@b/a'}, job: {env: {MY_PASSWORD: hunter2}}}"))
    assert len(found) == 2
    assert "hunter2" not in str(found)
