"""What `specbatch init` writes: a spec and a few prompts that run on any machine, and that a cluster takes too."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import PurePath

from specbatch.api.explain import yaml_value

PROMPTS_NAME = "prompts.jsonl"
_LONGEST_NAME = 52  # of metadata.name
_DEFAULT_NAME = "my-job"

_SPEC = """\
# A run: prompts through a target, accelerated by a drafter. The text is exactly the target's own.
#
#   specbatch run {file}         run it on this machine; the rows are in results/{name}/
#   specbatch validate {file}    check this file, its prompts and its models
#   specbatch plan {file}        see which GPU would hold what, and whether it fits
#   specbatch submit {file}      run it on a cluster; `specbatch doctor {file}` first
#   specbatch explain decoding   every field of a section; `specbatch explain -r` all of them
#
# Relative paths are taken against the directory in which specbatch is started.
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata:
  name: {name}
spec:
  # The pair that comes in the package: 3 million parameters, made to show speculative decoding without a download. It knows nineteen
  # kinds of short English instruction, such as those in {prompts}, and answers everything else with nonsense. From here on:
  #
  #   A real model on the CPU: target model HuggingFaceTB/SmolLM2-135M-Instruct, drafter {{method: ngram}}, maxLength 2048
  #                            (without the hub: `make smollm2` in a checkout, then job/smollm2.yaml)
  #   On a GPU:                target model Qwen/Qwen3-8B, drafter model Qwen/Qwen3-1.7B, both dtype bfloat16, gpus 1, maxLength 4096
  #
  # Models come from the Hugging Face hub when they are first needed, or by `specbatch fetch {file}`; a folder is a model, too.
  target:
    model: embedded:target
    dtype: float32 # bfloat16 on GPUs
  drafter: # of the same vocabulary as the target; `--set drafter=null` runs the target alone
    model: embedded:drafter
    dtype: float32
  placement:
    gpus: 0 # 0 is the CPU
  decoding:
    maxNewTokens: 128
    temperature: 0 # greedy
  batching:
    maxLength: 512 # prompt and new tokens together
  dataset:
    uri: {uri} # a file, folder, glob or URI (s3://...); a row is {{"prompt": ...}}, {{"messages": ...}}, or a line of a .txt file
  results:
    dir: results
  job: # only for submit and Helm
    # image: registry.example.com/specbatch/runner:0.1.0
    resources:
      requests: {{cpu: 1, memory: 2Gi}}
    volumes:
      results: {{claimName: specbatch-results}} # or no volume, and results.publish: s3://bucket/runs/
      # modelCache: {{claimName: specbatch-models}} # models of the hub: `specbatch fetch` onto it, and pods start offline
"""

_PROMPTS = (
    "Sort these numbers in descending order: 76, 35, 78",
    "Convert 30 litres to millilitres.",
    "Turn this into JSON:\nThe job is baker, the city is Edinburgh, the name is Matilda and the hobby is dancing.",
    "Keep the animals and drop the rest: cherry, umbrella, octopus, hamster",
    "Introduce this person in one sentence:\nhobby: cycling\nname: Benjamin\njob: carpenter\ncity: Reykjavik",
)


def starter(file: PurePath) -> str:
    """A valid spec, for a file of that name; its prompts are those of `starter_prompts`, beside it."""
    prompts = file.with_name(PROMPTS_NAME)
    return _SPEC.format(file=file, name=_job_name(file.stem), uri=yaml_value(str(prompts)), prompts=PROMPTS_NAME)


def starter_prompts() -> str:
    """Rows that the embedded pair answers rightly (a test proves it)."""
    return "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in _PROMPTS)


def _job_name(stem: str) -> str:
    """The file's name as metadata.name."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", plain.lower())
    return "-".join(words)[:_LONGEST_NAME].strip("-") or _DEFAULT_NAME
