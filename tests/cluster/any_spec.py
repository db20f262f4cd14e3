"""Any spec that may go to a cluster, with its bundled files."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.cluster.any_job import durations, jobs, keys, label_values, long_names, maybe, names, small, texts, words

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class AnySpec:
    """A spec file's content (plain data), and the content of the files that it names by relative paths."""

    data: dict[str, Any]
    files: dict[str, bytes]

    @property
    def text(self) -> str:
        """The file: YAML in which every text is quoted, so that readers of YAML 1.1 and 1.2 see the same."""
        return json.dumps(self.data, ensure_ascii=False, indent=1)

    @property
    def contents(self) -> dict[str, bytes]:
        """Its bundled files: its own, and those of the repository."""
        uri = self.data["spec"]["dataset"]["uri"]
        return {**self.files, **({uri: (ROOT / uri).read_bytes()} if uri.startswith("job/") else {})}


@st.composite
def any_spec(draw: st.DrawFn, *, real: bool = False) -> AnySpec:
    """A valid spec; `real`: of which Kubernetes would take the free-form parts, too."""
    published = draw(st.booleans())
    rows = (draw(texts) + draw(st.sampled_from(["", "\x92", "\ufeff\n"]))).encode()
    datasets = {
        "job/prompts/quickstart.jsonl": None,
        "my/./rows é,[a]=b.jsonl": rows,
        "rows.jsonl.gz": gzip.compress(rows, mtime=0) + b"\xff\xfe",
        "s3://bucket/rows.jsonl": None,
        "/data/rows.jsonl": None,
    }
    uri = draw(st.sampled_from(list(datasets)))
    content = datasets[uri]
    files = {} if content is None else {uri.replace("/./", "/"): content}
    template = draw(st.sampled_from(["auto", "none", "tool_use", "chat.jinja"]))
    if template == "chat.jinja":
        files[template] = draw(texts).encode()
    system = {} if template == "none" else {"systemPrompt": texts, "enableThinking": st.booleans()}
    temperature = draw(st.sampled_from([0, 0.0, 0.7, 1, 1e-7, 10]))
    sampled = {"topP": st.sampled_from([1, 1.0, 0.95, 1e-9]), "topK": small} if temperature else {}
    data = {
        "apiVersion": "specbatch.dev/v1alpha1",
        "kind": "SpecBatchJob",
        "metadata": {
            "name": draw(names | long_names),
            **draw(
                maybe(
                    namespace=names | st.just("123"),
                    labels=st.dictionaries(keys, label_values, max_size=2),
                    annotations=st.dictionaries(keys, texts, max_size=2),
                )
            ),
        },
        "spec": {
            "target": {"model": "Qwen/Qwen3-8B", **draw(maybe(revision=words, dtype=st.just("float32")))},
            "dataset": {
                "uri": uri,
                "chatTemplate": template,
                **draw(
                    maybe(
                        promptField=words, limit=st.integers(1, 2**53 - 1), errorBudget=small | st.just("5%"), **system
                    )
                ),
            },
            "results": {
                **draw(
                    maybe(
                        partSize=st.sampled_from([4096, 1000000, "1Gi", 5e6]),
                        publishSeconds=durations,
                        publishRetrySeconds=durations | st.just(0),
                        fsyncSeconds=durations,
                        dir=st.sampled_from(["results", "/results/", "/results/./x"]),
                        includePrompt=st.booleans(),
                    )
                ),
                **({"publish": "s3://bucket/runs/"} if published else {}),
            },
            **draw(
                maybe(
                    drafter=st.just({"model": "Qwen/Qwen3-1.7B", "revision": None}) | st.just({"method": "ngram"}),
                    placement=maybe(gpus=st.integers(1, 64), cpuThreads=st.integers(1, 9) | st.just("auto"))
                    | st.just({"gpus": 0}),
                    batching=maybe(maxSequences=st.integers(1, 500), maxLength=st.integers(2000, 2**20)),
                    job=jobs(published=published, real=real) if published else st.nothing(),
                )
            ),
            **({} if published else {"job": draw(jobs(published=False, real=real))}),
            "decoding": {
                "temperature": temperature,
                **draw(maybe(seed=st.integers(0, 2**53 - 1), stop=st.lists(texts.filter(bool), max_size=3), **sampled)),
            },
        },
    }
    return AnySpec(data, files)
