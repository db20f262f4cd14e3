"""Which page is free, how many rows hold one, and which tokens' KV it has: what rows share is held once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class PageAllocator:
    """Reference counts, the free list, and pages by the prefix that they end (vLLM's and nano-vllm's block manager).

    A page that has a key holds the KV of the key's last tokens, or will once the row that took it has been filled: it is pending until then.
    When no row holds it any more it stays, to be found again, until memory is needed: the longest unused goes first, and of a row's
    pages the last one, so that the page before one that can be found can be found, too.

    Invariant: a page is held, cached (it has a key and no holder) or free; page 0 is none of them. Where a key can be found, so can those before it in its row.

    repeated: how often a row holds a page that another one holds already

    Args:
        pages: numbered from 1.
    """

    def __init__(self, pages: int) -> None:
        self._free = list(range(pages, 0, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()  # the longest unused first
        self._holders = [0] * (pages + 1)
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._pending: set[int] = set()
        self.repeated = 0

    @property
    def free(self) -> int:
        """Pages that nobody holds, what they may be found by or not."""
        return len(self._free) + len(self._cached)

    @property
    def unused(self) -> Sequence[int]:
        """Pages that nobody holds and that hold nothing."""
        return self._free

    def holders(self, page: int) -> int:
        """Rows that hold a page."""
        return self._holders[page]

    def take(self, key: bytes | None = None) -> int:
        """A page of its holder's own; with a key, others find it by that from now on. There must be a free one."""
        page = self._free.pop() if self._free else self._evict_cached()
        self._holders[page] = 1
        if key is not None:
            self._page_of[key], self._key_of[page] = page, key
            self._pending.add(page)
        return page

    def share(self, key: bytes) -> int | None:
        """The page of a key, for one holder more; None where there is none."""
        page = self._page_of.get(key)
        if page is not None:
            if self._holders[page]:
                self.repeated += 1
            else:
                del self._cached[page]
            self._holders[page] += 1
        return page

    def release(self, pages: Sequence[int]) -> None:
        """A row no longer holds its pages, given in their order."""
        holders = self._holders
        for page in reversed(pages):
            holders[page] -= 1
            if holders[page]:
                self.repeated -= 1
                continue
            if page in self._key_of and page not in self._pending:
                self._cached[page] = None
                continue
            self._forget(page)
            self._pending.discard(page)
            self._free.append(page)

    def forget_all(self) -> None:
        """No page can be found any more: what some hold is not to be trusted."""
        self._page_of.clear()
        self._key_of.clear()
        self._free.extend(self._cached)
        self._cached.clear()

    # -- what is found ---------------------------------------------------------------------------------------------------

    def cost(self, keys: Iterable[bytes], taken: set[bytes]) -> int:
        """Free pages that a row takes for its keys, after others that take those of `taken`, to which it is added."""
        cost = 0
        for key in keys:
            if key not in taken:
                page = self._page_of.get(key)
                cost += page is None or not self._holders[page]
                taken.add(key)
        return cost

    def held(self, keys: Iterable[bytes]) -> int:
        """How many of a row's first keys belong to pages that other rows hold."""
        count = 0
        for key in keys:
            page = self._page_of.get(key)
            if page is None or not self._holders[page]:
                break
            count += 1
        return count

    def found(self, keys: Iterable[bytes]) -> int:
        """How many of a row's first keys can be found."""
        count = 0
        for key in keys:
            if key not in self._page_of:
                break
            count += 1
        return count

    def filled(self, pages: Iterable[int]) -> int:
        """How many of these pages, from the first on, are not pending."""
        if not self._pending:
            return len(list(pages))
        count = 0
        for page in pages:
            if page in self._pending:
                break
            count += 1
        return count

    def fill(self, pages: Iterable[int]) -> None:
        """What fills these pages is queued before anything that may read them."""
        self._pending.difference_update(pages)

    def _evict_cached(self) -> int:
        page, _ = self._cached.popitem(last=False)
        self._forget(page)
        return page

    def _forget(self, page: int) -> None:
        key = self._key_of.pop(page, None)
        if key is not None:
            del self._page_of[key]
