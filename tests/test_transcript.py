"""The newcomer's transcript is true: from the fresh checkout on, its commands are run as they stand, on a table like the one it has."""

import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.checkout import fresh_checkout, run_block
from tests.documents import ROOT, blocks, make_targets

SESSION = [block.removeprefix("$ ").partition("\n")[::2] for block in blocks("docs/TRANSCRIPT.md", "console")]
COMMANDS = [command for command, _ in SESSION]
TABLE = {
    "id": ["a1", "a2", "b1"],
    "topic": ["lists", "lists", "maths"],
    "question": [
        "Sort these numbers in descending order: 76, 35, 78",
        "Convert 30 litres to millilitres.",
        "What is 3 plus 4?",
    ],
}


def test_from_the_clone_to_the_answers_takes_five_commands():
    assert COMMANDS[0].startswith("git clone ")
    assert COMMANDS[1].split() == ["make", "smollm2"]
    assert "smollm2" in make_targets()
    assert len(COMMANDS) == 5


@pytest.mark.slow
def test_each_command_of_the_transcript_works_and_the_last_leaves_the_answers_beside_the_questions(tmp_path):
    """What the first two commands bring is put there: the checkout, and for the 100 MB of a real target the embedded one."""
    checkout = fresh_checkout(tmp_path)
    shutil.copytree(ROOT / "specbatch/embedded/target", checkout / "models/smollm2/target")
    table = pa.table(TABLE)
    pq.write_table(table, checkout / "questions.parquet")
    for command, shown in SESSION[2:]:
        done = run_block(command, checkout)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        said = done.stdout + done.stderr
        for line in re.findall(r"^prompts.*|^columns.*", said, re.MULTILINE):
            assert line in shown, f"{command}: what is found in the table is told in other words now"
    answers = pq.read_table(checkout / "answers.parquet")
    assert answers.select(TABLE) == table
    assert {"generated_text", "finish_reason"} <= set(answers.column_names)
    assert "78 76 35" in re.sub(r"\W+", " ", answers["generated_text"][0].as_py())
