"""Bodies of OpenAI's Responses API: a row's answer as a `response` object, and back."""

from __future__ import annotations

from typing import Any

from specbatch.results.rows import OpenAIForm, ResultRow, Usage, unique_name


def response_body(row: ResultRow, form: OpenAIForm) -> dict[str, Any]:
    """The `response` object of a row."""
    cut = row.finish_reason == "length"
    usage = row.usage
    return {
        "id": f"resp_{unique_name(row)}",
        "object": "response",
        "created_at": form.created,
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": None,
        "metadata": {},
        "model": form.model,
        "output": _output(row),
        "parallel_tool_calls": True,
        "temperature": None,
        "top_p": None,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }


def _output(row: ResultRow) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if row.reasoning is not None:
        content = [{"type": "reasoning_text", "text": row.reasoning}]
        items.append({"type": "reasoning", "id": f"rs_{unique_name(row)}", "summary": [], "content": content})
    if row.text or not row.tool_calls:
        logprobs = (row.logprobs or {}).get("content", [])
        part = {"type": "output_text", "text": row.text, "annotations": [], "logprobs": logprobs}
        status = "incomplete" if row.finish_reason == "length" else "completed"
        message = {"type": "message", "id": f"msg_{unique_name(row)}", "role": "assistant", "status": status}
        items.append({**message, "content": [part]})
    for number, call in enumerate(row.tool_calls or []):
        function = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        ids = {"id": f"fc_{unique_name(row)}_{number}", "call_id": call["id"]}
        items.append({"type": "function_call", **ids, **function, "status": "completed"})
    return items


def answer_from_response(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a row that its answer makes; KeyError, TypeError, ... where the body is none."""
    parts = [part for item in body["output"] if item["type"] == "message" for part in item["content"]]
    reasons = [part["text"] for item in body["output"] if item["type"] == "reasoning" for part in item["content"]]
    calls = [
        {"id": item["call_id"], "type": "function", "function": {"name": item["name"], "arguments": item["arguments"]}}
        for item in body["output"]
        if item["type"] == "function_call"
    ]
    logprobs = [one for part in parts for one in part.get("logprobs", [])]
    done = "tool_calls" if calls else "stop"
    return {
        "text": "".join(str(part["text"]) for part in parts),
        "finish_reason": "length" if body["status"] == "incomplete" else done,
        "reasoning": "".join(reasons) if reasons else None,
        "tool_calls": calls or None,
        "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
    }


def usage_from_response(body: dict[str, Any]) -> Usage:
    """The token counts of a body."""
    usage = body["usage"]
    return Usage(prompt_tokens=int(usage["input_tokens"]), completion_tokens=int(usage["output_tokens"]))
