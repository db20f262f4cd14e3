"""From a line to prompt tokens: forms, options, messages, chat template."""
