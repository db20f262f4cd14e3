"""Makes the embedded pair: task data, a tokenizer, a deep thin target and a one-layer drafter.

One command trains everything: `python -m tools.embedded_pair.train`; another measures it:
`python -m tools.embedded_pair.evaluate`. MODEL_CARD.md in specbatch/embedded/ says what came out.
"""
