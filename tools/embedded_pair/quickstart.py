"""Write the quickstart's prompts: held-out tasks with their right answers, as JSON lines.

python -m tools.embedded_pair.quickstart     # rewrites job/prompts/quickstart.jsonl
"""

from __future__ import annotations

import json
from pathlib import Path

from tools.embedded_pair.tasks import generate

QUICKSTART = Path(__file__).parents[2] / "job" / "prompts" / "quickstart.jsonl"
QUICKSTART_SEED = 30_001
ROWS = 200


def lines(rows: int = ROWS) -> list[str]:
    """The file's lines: different prompts, mixed families, none of them ever trained on."""
    answers: dict[str, str] = {}
    for task in generate(QUICKSTART_SEED, 2 * rows, "held_out"):
        answers.setdefault(task.prompt, task.answer)
    chosen = list(answers.items())[:rows]
    return [
        json.dumps({"id": f"q-{number:04}", "prompt": prompt, "answer": answer})
        for number, (prompt, answer) in enumerate(chosen, 1)
    ]


if __name__ == "__main__":
    QUICKSTART.write_text("".join(f"{line}\n" for line in lines()))
    print(f"{QUICKSTART}: {ROWS} rows")
