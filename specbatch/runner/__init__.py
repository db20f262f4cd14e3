"""Inside the pod: dataset -> tokenizer -> engine -> results."""
