"""How many pages of KV layers with a window have: the planner counts what the engine makes."""

PAGE = 64  # positions


def pages_a_row(window: int, most_k: int) -> int:
    """Pages that a row holds at the most, between prefill forwards: the window and what may be written beyond it, wherever pages begin.

    Args:
        window: of the layers.
        most_k: drafts a round; beside the next round one may be in flight.
    """
    return -(-(window + max(PAGE, 3 * (most_k + 2))) // PAGE) + 1


def sliding_pages(window: int, most_k: int, rows: int, columns: int, chunk: int) -> int:
    """Pages for all rows and what a prefill forward writes beside; 0 where rows are too short for that to pay.

    They are for all rows, whatever memory there is: so they are made where they are no more than the least that layers without a window
    have, half of what all rows need at their longest.

    Args:
        window: the largest of any layer; 0: there is none.
        most_k: drafts a round.
        rows: at once.
        columns: pages of the longest row.
        chunk: tokens of a prefill forward.
    """
    # A stretch of up to PAGE tokens is among a row's pages; of longer ones each further PAGE tokens take one more.
    pages = rows * pages_a_row(window, most_k) + -(-min(chunk, rows * columns * PAGE) // PAGE)
    return pages if window and pages <= max(columns, rows * -(-columns // 2)) else 0
