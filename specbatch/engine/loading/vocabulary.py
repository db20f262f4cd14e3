"""Target and drafter must mean the same by a token id."""

from __future__ import annotations

from collections.abc import Mapping

from specbatch.errors import VocabularyMismatchError

_SHOWN = 3


def check_vocabularies(target: Mapping[str, int], drafter: Mapping[str, int]) -> None:
    """Compares two tokenizers' vocabularies (token -> id, added tokens included).

    Raises:
        VocabularyMismatchError: naming the sizes and the first tokens that differ.
    """
    if target == drafter:
        return
    by_id = {token_id: token for token, token_id in drafter.items()}
    moved = [
        f"{token!r} is {token_id} in the target, {drafter.get(token, 'missing')} in the drafter"
        + (f" (whose {token_id} is {by_id[token_id]!r})" if token_id in by_id else "")
        for token, token_id in sorted(target.items(), key=lambda item: item[1])
        if drafter.get(token) != token_id
    ]
    extra = [f"{token!r} is only in the drafter" for token in drafter if token not in target]
    differences = moved + extra
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    raise VocabularyMismatchError(
        f"target and drafter do not share a vocabulary: {len(target)} and {len(drafter)} tokens; "
        f"{'; '.join(differences[:_SHOWN])}{more}",
        where="spec.drafter.model",
        remedy="use a drafter of the same family (same tokenizer), or `drafter: {method: ngram}`, or no drafter",
    )
