"""A causal LM whose forward runs over slots: the one place that calls a transformers model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from specbatch.engine.fp8.inputs import inputs_as_they_are
from specbatch.engine.general import rope
from specbatch.engine.general.attention import SLOT_ATTENTION, UnsupportedAttentionError, over, register
from specbatch.engine.general.cache import SlotCache, SlotView
from specbatch.engine.general.captured import CapturedForwards, Recorder, recorder
from specbatch.engine.general.quicker_modules import Product, quicken
from specbatch.engine.general.support import unsupported, why_not
from specbatch.engine.general.taps import Taps
from specbatch.engine.memory import is_device_fault, is_out_of_memory
from specbatch.errors import ModelError

# Where configs keep how far back a layer sees. The check at load makes them smaller than its few tokens.
_WINDOWS = ("sliding_window", "attention_chunk_size")
_PROBED_WINDOW = 3


class CausalLM:
    """A transformers causal LM, its KV slots and its devices.

    Args:
        model: any transformers model for causal language modelling, on its devices, in its dtype.
        name: as shown to people.

    Raises:
        ModelError: the architecture cannot run on the slot cache (its class says so, or comparing two forwards does).
    """

    def __init__(self, model: Any, name: str = "model") -> None:
        register()
        self.model = model.eval()
        self.name = name
        self.config = model.config.get_text_config()
        if (what := why_not(self.config, type(model))) is not None:
            raise self._unsupported(what)
        self.longest = self.max_positions
        embedding = model.get_input_embeddings().weight
        self.input_device: torch.device = embedding.device
        self._last_token: int = len(embedding) - 1
        self.fp8_kv = False  # set before there are rows: keys and values are kept in FP8, which makes it another model
        self.cache: SlotCache | None = None
        self.captured: CapturedForwards | None = None
        self._taps = Taps(model)
        if getattr(self.config, "attn_logit_softcapping", None):
            model.set_attn_implementation("eager")  # transformers' others leave the cap out
        elif model.config._attn_implementation == SLOT_ATTENTION:  # noqa: SLF001  # transformers has no public reader
            model.set_attn_implementation("sdpa")  # wrapped before: compare with its own attention all the same
        with self._short_windows(), inputs_as_they_are(model):
            self._check_slots()

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
        """Positions the model was made for; with dynamic NTK its config names those before stretching."""
        positions = getattr(self.config, "max_position_embeddings", 0) or 2**31
        return int(positions * rope.stretch(self.model))

    @property
    def rope_rule(self) -> str | None:
        """Of a model whose rotary embedding depends on the sequence's length: the rule of the run, see limit_rows."""
        return rope.rule(self.model)

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

    def limit_rows(self, max_length: int) -> None:
        """Rows have at most so many tokens: a rotary embedding that depends on the length becomes that of such a row.

        Not of the rows that happen to be decoded together: a row's text depends on no other row, prefill chunk or k.
        """
        self.longest = min(max_length, self.max_positions)
        rope.fix_length(self.model, self.longest)

    def tap(self, layers: Sequence[int]) -> None:
        """From now on forwards keep the inputs of these layers, for `tapped`.

        Raises:
            ModelError: the layers cannot be found in the model.
        """
        if not self._taps.set(layers):
            raise ModelError(
                f"a head cannot draft for {type(self.model).__name__}: it reads the inputs of layers, which it does not find in that",
                where=self.name,
                remedy="use a draft model of the target's family, `drafter: {method: ngram}`, or no drafter",
            )

    def tapped(self) -> Tensor:
        """Inputs of the layers of `tap` in the last forward, beside each other.  # [n, tokens, layers * hidden]"""
        return self._taps.joined(self.input_device)

    def allocate(self, slots: int, max_positions: int) -> None:
        """Makes room for rows; memory is taken at the first forward, layer by layer."""
        self.captured = None  # its graphs write to the old slots
        self.cache = None  # frees the old slots before the new ones are taken
        self.cache = SlotCache(self.num_layers, slots, max_positions, fp8=self.fp8_kv)

    def capture_forwards(self, record: Recorder | None = None, product: Product | None = None) -> None:
        """From now on forwards over the slots that are allocated are CUDA graphs, where they can be, or what `record` makes; for `product` see quicken."""
        devices = {parameter.device for parameter in self.model.parameters()}
        if self.cache is not None and (record is not None or (len(devices) == 1 and self.input_device.type == "cuda")):
            sizes = self.cache.slots, self.cache.max_positions, self.input_device
            quicken(self.model, product)
            self.captured = CapturedForwards(self.logits, *sizes, record or recorder(self.input_device))

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
        if self.captured is not None:
            return self.captured.run(token_ids, view, last_only=last_only)
        return self.logits(token_ids, view, last_only)

    @torch.inference_mode()
    def logits(self, token_ids: Tensor, view: SlotView, last_only: bool = False) -> Tensor:
        """As forward, never captured: what CapturedForwards captures, and for shapes that seldom come again."""
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
        position_ids = view.positions.clamp(0, self.longest - 1)
        with over(view):
            return module(
                input_ids=token_ids.clamp(max=self._last_token).to(self.input_device),  # as TorchOps.embed, and why
                position_ids=position_ids.to(self.input_device),
                past_key_values=self.cache,
                use_cache=True,
                **kwargs,
            )

    # -- the check at load -----------------------------------------------------------------------------------------------

    def _probe_ids(self) -> Tensor:
        return torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]) % self.vocab_size

    @contextmanager
    def _short_windows(self) -> Iterator[None]:
        """Windows and chunks shorter than the probe, so that it sees them. Masks are made from the config, forward by forward."""
        windows = {name: getattr(self.config, name, None) for name in _WINDOWS}
        windows = {name: value for name, value in windows.items() if isinstance(value, int) and value > _PROBED_WINDOW}
        for name in windows:
            setattr(self.config, name, _PROBED_WINDOW)
        try:
            yield
        finally:
            for name, value in windows.items():
                setattr(self.config, name, value)

    def _check_slots(self) -> None:
        """The slot cache must give the model's own logits: else KV, positions or masks are not what we think."""
        calls: list[Tensor] = []
        try:
            expected = self._plain_logits()
            self.model.set_attn_implementation(SLOT_ATTENTION)
            actual = self._slot_logits(calls).float()
        except UnsupportedAttentionError as error:
            raise self._unsupported(str(error)) from error
        except Exception as error:  # whatever its code raises when it meets our cache
            if isinstance(error, RuntimeError) and (is_out_of_memory(error) or is_device_fault(error)):
                raise  # of the device, not of the model
            raise self._unsupported(f"code that fails where rows have different lengths ({_show(error)})") from error
        finally:
            self.cache = None
        if not expected.isfinite().all():
            raise self._unsupported(
                "no finite logits on a short prompt: its weights are broken, or overflow their dtype"
            )
        if len(calls) < self.num_layers:
            missing = f"{self.num_layers - len(calls)} of its {self.num_layers} layers" if calls else "its layers"
            raise self._unsupported(f"{missing} outside transformers' attention interface")
        expected = expected.to(actual.device)
        wanted = torch.stack([expected[2:5], expected[5:8]])
        difference = (actual - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)
        bound = 1e-3 if self.model.dtype == torch.float32 else 0.08  # 16-bit forwards of another shape round apart
        if not difference <= bound:
            what = "positions, masks or a state of a kind that rows of different lengths cannot share"
            raise self._unsupported(f"{what} (logits differ by {difference:.2g})")

    @torch.inference_mode()
    def _plain_logits(self) -> Tensor:
        """Logits of a short sequence by the model's own attention, without a cache.  # [8, vocab]"""
        logits: Tensor = self.model(input_ids=self._probe_ids().to(self.input_device), use_cache=False).logits
        return logits[0].float()

    def _slot_logits(self, calls: list[Tensor]) -> Tensor:
        """Logits of tokens 2 to 4 of one row beside tokens 5 to 7 of another, after a padded prefill of unlike lengths.  # [2, 3, vocab]"""
        ids = self._probe_ids()
        length = ids.shape[1]
        self.allocate(2, length)
        prefill = torch.tensor([[-1, -1, 0, 1, 2, 3, 4], [-1, -1, -1, -1, -1, 0, 1]])
        tokens = torch.where(prefill >= 0, ids[0][prefill.clamp(0)], 0)
        self.fill(tokens, SlotView(torch.tensor([1, 0]), prefill, None))
        positions = torch.tensor([[2, 3, 4], [5, 6, 7]])
        return self.forward(ids[0][positions], SlotView(slice(0, 2), positions, length, calls))

    def _unsupported(self, what: str) -> ModelError:
        return unsupported(self.name, type(self.model).__name__, what)


def _show(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
