"""A causal LM whose forward runs over slots: the one place that calls a transformers model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from specbatch.engine.attention import SLOT_ATTENTION, register
from specbatch.engine.cache import SlotCache, SlotView
from specbatch.errors import ModelError


class CausalLM:
    """A transformers causal LM, its KV slots and its devices.

    Args:
        model: any transformers model for causal language modelling, on its devices, in its dtype.
        name: as shown to people.

    Raises:
        ModelError: the architecture cannot run on the slot cache (found by comparing two forwards).
    """

    def __init__(self, model: Any, name: str = "model") -> None:
        register()
        self.model = model.eval()
        self.name = name
        self.config = model.config.get_text_config()
        embedding = model.get_input_embeddings().weight
        self.input_device: torch.device = embedding.device
        self._last_token: int = len(embedding) - 1
        self.cache: SlotCache | None = None
        if model.config._attn_implementation == SLOT_ATTENTION:  # noqa: SLF001  # transformers has no public reader
            model.set_attn_implementation("sdpa")  # wrapped before: compare with its own attention all the same
        expected = self._plain_logits()
        model.set_attn_implementation(SLOT_ATTENTION)
        self._check_slots(expected)

    @property
    def vocab_size(self) -> int:
        """Columns of the logits; may be padded beyond the tokenizer's vocabulary."""
        return int(self.config.vocab_size)

    @property
    def num_layers(self) -> int:
        """Decoder layers, each with KV."""
        return int(self.config.num_hidden_layers)

    @property
    def max_positions(self) -> int:
        """Positions the model was made for."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 2**31)

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """End-of-sequence tokens of the generation config, else of the config."""
        ids = self.model.generation_config.eos_token_id
        if ids is None:
            ids = self.config.eos_token_id
        return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])

    def placement(self) -> dict[str, str]:
        """Where each parameter and buffer really is: its name -> device, read back from the loaded model."""
        tensors = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {name: str(tensor.device) for name, tensor in tensors}

    def allocate(self, slots: int, max_positions: int) -> None:
        """Makes room for rows; memory is taken at the first forward, layer by layer."""
        self.cache = None  # frees the old slots before the new ones are taken
        self.cache = SlotCache(self.num_layers, slots, max_positions)

    @torch.inference_mode()
    def forward(self, token_ids: Tensor, view: SlotView, *, last_only: bool = False) -> Tensor:
        """Runs tokens at their positions against the slots, writing their KV.

        Args:
            token_ids: int64 [n, tokens]
            view: slots, positions [n, tokens], extent.
            last_only: logits of the last column alone.

        Returns:
            logits [n, tokens or 1, vocab], in the model's dtype
        """
        logits: Tensor = self._run(self.model, token_ids, view, logits_to_keep=1 if last_only else 0).logits
        return logits

    @torch.inference_mode()
    def fill(self, token_ids: Tensor, view: SlotView) -> None:
        """As forward, for the KV alone: the language-model head is not run."""
        self._run(self.model.base_model, token_ids, view)

    def _run(self, module: Any, token_ids: Tensor, view: SlotView, **kwargs: Any) -> Any:
        assert self.cache is not None, "forward before allocate"
        self.cache.use(view)
        # Tokens drafted past a row's end may lie past the last embedding; they are cut off, but must not index out of it.
        position_ids = view.positions.clamp(0, self.max_positions - 1)
        return module(
            input_ids=token_ids.clamp(max=self._last_token).to(self.input_device),  # as TorchOps.embed, and why
            position_ids=position_ids.to(self.input_device),
            past_key_values=self.cache,
            use_cache=True,
            slot_view=view,
            **kwargs,
        )

    def _probe_ids(self) -> Tensor:
        return torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]) % self.vocab_size

    @torch.inference_mode()
    def _plain_logits(self) -> Tensor:
        """Logits of a short sequence by the model's own attention, without a cache.  # [8, vocab]"""
        logits: Tensor = self.model(input_ids=self._probe_ids().to(self.input_device), use_cache=False).logits
        return logits[0].float()

    def _check_slots(self, expected: Tensor) -> None:
        """The slot cache must give the model's own logits: else KV, positions or masks are not what we think."""
        ids = self._probe_ids()
        length = ids.shape[1]
        self.allocate(2, length)
        try:
            # Slot 1 holds 5 tokens from a padded prefill, then takes 3 more beside another row of another length.
            prefill = torch.tensor([[-1, -1, 0, 1, 2, 3, 4], [-1, -1, -1, -1, -1, 0, 1]])
            tokens = torch.where(prefill >= 0, ids[0][prefill.clamp(0)], 0)
            self.fill(tokens, SlotView(torch.tensor([1, 0]), prefill, None))
            positions = torch.tensor([[2, 3, 4], [5, 6, 7]])
            actual = self.forward(ids[0][positions], SlotView(slice(0, 2), positions, length)).float()
        except (TypeError, AttributeError, IndexError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise self._unsupported(f"a forward fails: {error}") from error
        finally:
            self.cache = None
        expected = expected.to(actual.device)
        wanted = torch.stack([expected[2:5], expected[5:8]])
        difference = (actual - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)
        bound = 1e-3 if self.model.dtype == torch.float32 else 0.08  # 16-bit forwards of another shape round apart
        if not difference <= bound:
            raise self._unsupported(f"its logits differ by {difference:.2g} from the model's own")

    def _unsupported(self, why: str) -> ModelError:
        return ModelError(
            f"{type(self.model).__name__} cannot run on the slot cache: {why}",
            where=self.name,
            remedy="use a decoder of a plain attention architecture (Llama, Qwen2, Qwen3, Mistral, ...)",
        )
