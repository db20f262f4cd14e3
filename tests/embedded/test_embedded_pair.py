"""The embedded pair keeps what its model card promises."""

import json
import re
from pathlib import Path

import pytest

from specbatch import embedded
from tools.embedded_pair.quickstart import QUICKSTART, lines
from tools.embedded_pair.tasks import FAMILIES, generate, split_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tools.embedded_pair.decode import chat_ids, foreseen, greedy, speculate  # noqa: E402 - after the skips
from tools.embedded_pair.evaluate import is_right, load  # noqa: E402
from tools.embedded_pair.shapes import bytes_per_step  # noqa: E402
from tools.embedded_pair.tokenizer import SYSTEM_PROMPTS, as_prompt, train_tokenizer  # noqa: E402

FRESH_SEED = 40_404
UNICODE = [
    "Zażółć gęślą jaźń",
    "今天天气很好。",
    "👩‍👩‍👧 café\u0301 \u200b",
    "a , b . it 's\t\n\n  x ",
    "\x00\x7f ÿ",
    "",
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Two spinning threads on shared cores can be five times slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(embedded.path("target"))


@pytest.fixture(scope="module")
def target():
    return load(embedded.path("target"))


@pytest.fixture(scope="module")
def drafter():
    return load(embedded.path("drafter"))


@pytest.fixture(scope="module")
def fresh(target, tokenizer):
    """A hundred held-out tasks and the target's greedy answers."""
    tasks = list(generate(FRESH_SEED, 100, "held_out"))
    return tasks, greedy(target, tokenizer, [task.prompt for task in tasks], batch=100, max_new_tokens=112)


def test_unknown_name_is_a_key_error():
    with pytest.raises(KeyError, match="verifier"):
        embedded.path("verifier")


def test_both_load_as_stock_qwen3_with_one_vocabulary_and_end_token(target, drafter, tokenizer):
    for model in (target, drafter):
        assert type(model).__name__ == "Qwen3ForCausalLM"
        assert model.config.vocab_size == len(tokenizer) == 512
        assert model.config.max_position_embeddings == 2048
        assert (
            model.generation_config.eos_token_id
            == tokenizer.eos_token_id
            == tokenizer.convert_tokens_to_ids("<|im_end|>")
        )


def test_both_folders_hold_the_same_tokenizer_files():
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (embedded.path("target") / name).read_bytes() == (embedded.path("drafter") / name).read_bytes()


@pytest.mark.slow
def test_the_shipped_tokenizer_is_what_the_script_makes(tokenizer):
    assert train_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_the_pair_is_at_most_8_mb():
    files = [file for name in ("target", "drafter") for file in embedded.path(name).iterdir()]
    assert sum(file.stat().st_size for file in files) <= 8_000_000


def test_drafter_reads_at_most_a_tenth_of_the_targets_bytes_a_step(target, drafter):
    assert bytes_per_step(drafter) <= 0.1 * bytes_per_step(target)


@pytest.mark.parametrize("text", UNICODE)
def test_any_text_comes_back_unchanged_through_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_every_digit_is_one_token(tokenizer):
    assert len(tokenizer("20260107").input_ids) == 8


def test_chat_template_gives_the_form_that_was_trained_on(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == as_prompt([("one", "two")], "three", "Be brief.")


def test_tasks_are_the_same_for_the_same_seed_and_differ_for_another():
    first = list(generate(7, 50))
    assert first == list(generate(7, 50))
    assert first != list(generate(8, 50))


def test_every_family_is_drawn_and_train_and_held_out_never_meet():
    train, held_out = list(generate(7, 600)), list(generate(7, 600, "held_out"))
    assert {task.family for task in train} == {task.family for task in held_out} == set(FAMILIES)
    assert {split_of(task.prompt) for task in train} == {"train"}
    assert {split_of(task.prompt) for task in held_out} == {"held_out"}


def _numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def _items(text):
    return text.rstrip(".").split(": ")[-1].split(", ")


CHECKS = {
    "addition": lambda prompt, answer: sum(_numbers(prompt)) == _numbers(answer)[0],
    "subtraction": lambda prompt, answer: abs(_numbers(prompt)[0] - _numbers(prompt)[1]) == _numbers(answer)[0],
    "multiplication": lambda prompt, answer: _numbers(prompt)[0] * _numbers(prompt)[1] == _numbers(answer)[0],
    "sort_numbers": lambda prompt, answer: (
        sorted(_numbers(prompt), reverse="descending" in prompt or "largest to" in prompt) == _numbers(answer)
    ),
    "sort_words": lambda _, answer: _items(answer) == sorted(_items(answer)),
    "record_json": lambda prompt, answer: all(str(part) in prompt for pair in json.loads(answer).items() for part in pair),
    "record_csv": lambda _, answer: len({line.count(",") for line in answer.split("\n")}) == 1,
    "letter_case": lambda prompt, answer: prompt.lower().endswith(answer.lower()),
    "count_items": lambda prompt, answer: (
        len(re.findall(rf"\b{answer.split()[2]}\b", prompt)) - 1 == _numbers(answer)[0]
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", CHECKS)
def test_generated_answers_are_right_by_an_independent_check(family):
    tasks = [task for task in generate(99, 1500) if task.family == family]
    assert len(tasks) > 20
    wrong = [task for task in tasks if not CHECKS[family](task.prompt, task.answer)]
    assert not wrong


def test_speculate_replays_rounds_by_hand():
    assert speculate([True] * 5, 4) == (1, 4, 4)
    assert speculate([False] * 3, 4) == (3, 3 + 2 + 1, 0)
    assert speculate([True, False, True, True], 2) == (2, 4, 3)


@pytest.mark.slow
def test_target_answers_fresh_held_out_prompts_right(fresh, tokenizer):
    tasks, trajectories = fresh
    right = sum(is_right(tokenizer, *pair) for pair in zip(tasks, trajectories, strict=True))
    assert right >= 0.95 * len(tasks)


@pytest.mark.slow
def test_greedy_acceptance_rate_lies_in_its_band_at_k_4(fresh, drafter):
    figures = [speculate(hits, 4) for hits in foreseen(drafter, fresh[1])]
    drafted, accepted = (sum(figure[column] for figure in figures) for column in (1, 2))
    assert 0.60 <= accepted / drafted <= 0.90


@pytest.mark.slow
def test_target_answers_after_a_system_message_and_earlier_turns(target, tokenizer):
    """A few hundred tokens of context, one conversation at a time."""
    tasks = list(generate(FRESH_SEED + 1, 16, "held_out"))
    right = 0
    for *earlier, last in (tasks[start : start + 4] for start in range(0, 16, 4)):
        text = as_prompt([(task.prompt, task.answer) for task in earlier], last.prompt, SYSTEM_PROMPTS[0])
        ids = tokenizer(text, return_tensors="pt")
        output = target.generate(**ids, do_sample=False, max_new_tokens=112)[0, ids["input_ids"].shape[1] :]
        right += tokenizer.decode(output, skip_special_tokens=True) == last.answer
    assert right >= 3


@pytest.mark.slow
def test_prompt_far_outside_the_training_data_still_decodes(target, tokenizer):
    prompt = "Erzähl mir 一个故事 👋 " * 20
    assert len(chat_ids(tokenizer, prompt)) > 500
    assert len(greedy(target, tokenizer, [prompt], max_new_tokens=8)[0].output_ids) >= 1


def test_quickstart_prompts_are_what_the_script_writes_and_never_trained_on():
    text = Path(QUICKSTART).read_text(encoding="utf-8")
    assert text.splitlines() == lines()
    rows = [json.loads(line) for line in text.splitlines()]
    assert len({row["prompt"] for row in rows}) == len({row["id"] for row in rows}) == 200
    assert {split_of(row["prompt"]) for row in rows} == {"held_out"}
