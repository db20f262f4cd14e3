"""The target with KV in FP8 as transformers runs it: what tests hold the engines against."""

from transformers import DynamicCache

from specbatch.engine.fp8.kv import as_kept


class RoundedCache(DynamicCache):
    """transformers' own cache, which keeps what FP8 keeps, in the model's dtype."""

    def update(self, key_states, value_states, *args, **kwargs):
        return super().update(as_kept(key_states), as_kept(value_states), *args, **kwargs)
