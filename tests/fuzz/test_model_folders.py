"""Whatever stands in a model's folder: what is read before weights are loaded is valid, or refused in a sentence. 15,000 folders in make fuzz."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from specbatch.api import parse_spec
from specbatch.api.job import SpecBatchJob
from specbatch.errors import SpecbatchError
from specbatch.plan.planner import make_plan
from specbatch.plan.shapes.weight_files import check_weight_files
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.models.defaults import ModelDefaults
from specbatch.runner.models.load import Pair, find_pair, load_shared_tokenizer, read_shapes
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.requests import RequestMaker
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row import BadRow
from specbatch.runner.rows.row_reader import RowReader
from specbatch.runner.rows.templates import choose_template, template_file
from tests.fuzz.checks import bounded, check_sentence
from tests.fuzz.mutate import VALUES, changed, damaged
from tests.runner.tiny import byte_level_tokenizer, row_rules, save_model, spec_text

INPUTS = 500  # a test
SIZES = [0, 1, 2, 7, 10**6, 10**9, 2**31, 2**63, 10**30]
NAMES = [
    "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "intermediate_size", "model_type", "dtype",
    "num_experts", "num_local_experts", "moe_intermediate_size", "num_experts_per_tok", "layer_types", "sliding_window", "text_config", "rope_scaling",
    "rope_parameters", "max_position_embeddings", "architectures", "auto_map", "tie_word_embeddings", "quantization_config", "eos_token_id", "bos_token_id",
    "repetition_penalty", "suppress_tokens", "chat_template", "eos_token", "tokenizer_class", "added_tokens_decoder", "extra_special_tokens", "model_max_length",
    "weight_map", "metadata", "model", "vocab", "merges", "pre_tokenizer", "decoder", "post_processor", "normalizer", "added_tokens", "special", "id", "data_offsets",
]  # fmt: skip
KINDS = [
    "qwen3",
    "llama",
    "mistral",
    "qwen3_moe",
    "mixtral",
    "gpt2",
    "phi3",
    "gemma3_text",
    "qwen3_next",
    "mamba",
    "t5",
    "nobody",
]
TEMPLATES = ["{% for", "{{ messages | random }}", "{{ strftime_now('%Y') }}", "{{ ", "{% include 'x' %}", "{{ messages[9].content }}", "{{ " + "(" * 3000, "\ud800"]  # fmt: skip
JSON = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.json", "model.safetensors.index.json"]  # fmt: skip


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> Path:
    """A folder with every kind of file in it, none of them large."""
    folder = tmp_path_factory.mktemp("valid") / "m"
    save_model(folder, byte_level_tokenizer(), layers=1, seed=1)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    return folder


@pytest.fixture(scope="module")
def originals(valid) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(valid.iterdir())}


def make(number: int, originals: dict[str, bytes]) -> dict[str, bytes | None]:  # noqa: PLR0911 - a kind of damage each
    """An input: what some files of the folder hold instead; None: they are not there."""
    chosen = random.Random(number)
    name = chosen.choice([*JSON, *JSON, "chat_template.jinja", "model.safetensors"])
    data = originals.get(name, b'{"metadata": {}, "weight_map": {"a": "model.safetensors"}}')
    others = list(originals.values())
    match number % 8:
        case 0:
            return {name: damaged(data, others, chosen)}
        case 1 if name in originals:
            return {name: None}
        case 2 | 3 if name.endswith(".json"):
            return {name: _json(changed(json.loads(data), NAMES, chosen))}
        case 4:
            config = json.loads(originals["config.json"])
            for field in chosen.sample(NAMES[:13], chosen.randint(1, 4)):
                config[field] = chosen.choice(SIZES)
            config["model_type"] = chosen.choice(KINDS)
            return {"config.json": _json(config)}
        case 5:
            header = json.loads(originals["model.safetensors"][8 : 8 + _header_bytes(originals["model.safetensors"])])
            text = _json(changed(header, [*header, *NAMES], chosen))
            size = chosen.choice([len(text), len(text), *SIZES[:7]]) % 2**64
            return {"model.safetensors": size.to_bytes(8, "little") + text + bytes(chosen.choice([0, 100, 100_000]))}
        case 6:
            text = chosen.choice(TEMPLATES) + chosen.choice(["", "{{ messages[0].content }}"])
            kept = chosen.choice([text, [{"name": "default", "template": text}], [{"name": "x", "template": text}], {"default": text}, VALUES[9]])  # fmt: skip
            where = chosen.choice(["chat_template.json", "tokenizer_config.json"])
            fields = json.loads(originals[where]) | {"chat_template": kept}
            return {where: _json(fields), "chat_template.jinja": None}
    return {name: chosen.choice([b"", b"{}", b"[]", b"null", b"[" * 100_000, chosen.randbytes(200), data * 2])}


def _json(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def check(job: SpecBatchJob) -> str:
    """Everything that a run reads of a model before it loads weights; "valid" or "refused"."""
    with bounded():
        try:
            pair = find_pair(job.spec, {}, lambda _: None)
            assert all(pair.identity.values())
            _plan(job, pair)
            check_weight_files(pair.target.path, pair.target.name)
            tokenizer = load_shared_tokenizer(pair)
            template = choose_template(job.spec.dataset, tokenizer)
            assert pair.text_files | template_file(template)
            warnings = ModelDefaults(pair.target.path, pair.target.name).warnings(tokenizer, job.spec.decoding)
            for warning in warnings:
                check_sentence(warning)
            _encode(job, tokenizer, None if template is None else template.text)
        except SpecbatchError as error:
            check_sentence(str(error), 5000)
            return "refused"
    return "valid"


def _plan(job: SpecBatchJob, pair: Pair) -> None:
    target, _ = read_shapes(job.spec, pair)
    plan = make_plan(job, target, None, (), {})
    assert plan.fits or plan.problems
    assert pair.target.max_positions is None or pair.target.max_positions > 0


def _encode(job: SpecBatchJob, tokenizer, template: str | None) -> None:
    row = RowReader(row_rules(decoding=job.spec.decoding)).read(RawRow(0, 1, b'{"prompt": "hello"}'))
    assert not isinstance(row, BadRow)
    RequestMaker(Detokenizer(tokenizer), frozenset())
    try:
        assert PromptEncoder(tokenizer, template=template, max_length=128).encode(row)
    except RowError as error:
        check_sentence(error.message, 5000)


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.slow if part == 0 else pytest.mark.faults) for part in range(31)]
)
def test_a_model_folder_is_read_or_refused_in_a_sentence(tmp_path, valid, originals, part):
    folder = shutil.copytree(valid, tmp_path / "m")
    text = spec_text((folder, folder), tmp_path / "rows.jsonl", tmp_path / "results")
    job = parse_spec(text, "test", ["drafter=null", "decoding.numSpeculativeTokens=0"])
    seen: Counter[str] = Counter()
    for number in range(part * INPUTS, part * INPUTS + (INPUTS if part else 60)):
        replaced = make(number, originals)
        for name, data in replaced.items():
            (folder / name).unlink(missing_ok=True)
            if data is not None:
                (folder / name).write_bytes(data)
        try:
            seen[check(job)] += 1
        except BaseException as error:
            raise AssertionError(f"input {number}: {replaced!r:.3000}") from error
        for name in replaced:
            (folder / name).unlink(missing_ok=True)
            if name in originals:
                (folder / name).write_bytes(originals[name])
    assert min(seen["valid"], seen["refused"]) > sum(seen.values()) / 50, seen
