"""How many bad rows a run accepts before it fails."""

from __future__ import annotations

from specbatch.errors import DatasetError


class ErrorBudget:
    """`dataset.errorBudget`: a count is judged at every bad row, a share once all rows have ended.

    Bad rows of earlier attempts count as well; with several pods each judges its own shard.

    Args:
        budget: a count, a share such as "5%", or None: no limit.
    """

    def __init__(self, budget: int | str | None) -> None:
        self._count = budget if isinstance(budget, int) else None
        self._share = float(budget.removesuffix("%")) / 100 if isinstance(budget, str) else None

    def check_count(self, errors: int) -> None:
        """To be called as errors come.

        Raises:
            DatasetError: more than the count allows.
        """
        if self._count is not None and errors > self._count:
            raise _over(f"{errors} bad rows, and the error budget is {self._count}")

    def check_share(self, errors: int, rows: int) -> None:
        """To be called once all `rows`, bad ones among them, have ended.

        Raises:
            DatasetError: more than the share allows.
        """
        if self._share is not None and rows and errors / rows > self._share:
            raise _over(
                f"{errors} of {rows} rows are bad ({errors / rows:.1%}), and the error budget is {self._share:.4g}"
            )


def _over(message: str) -> DatasetError:
    return DatasetError(
        message,
        where="spec.dataset.errorBudget",
        remedy="the errors file says what is wrong with each; correct the rows, or raise the budget",
    )
