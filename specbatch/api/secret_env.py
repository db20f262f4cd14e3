"""Environment variables that look like secrets: by their name, or by their value. A spec is stored in plain text.

The patterns are also the Helm chart's, and so in the syntax that Go and Python share.
"""

from __future__ import annotations

import re

from specbatch.redact import TOKENS

SECRET_NAME = re.compile(
    r"(?i)(SECRET|PASSWORD|PASSWD|PASSPHRASE)|(^|_)(TOKEN|CREDENTIALS?|API_?KEY|ACCESS_KEY_ID|KEY|PASS)$|_PWD$|APIKEY$"
)
# HF_TOKEN_PATH, TLS_KEY_FILE and SECRET_NAME say where a secret is; PAD_TOKEN is a word of a tokenizer.
HARMLESS_NAME = re.compile(
    r"(?i)_(PATH|FILE|DIR|FOLDER|NAME|ARN|URL|URI|TTL|LENGTH|COUNT)$|PUBLIC_KEY$|(^|_)(PAD|EOS|BOS|UNK|SEP|MASK|CLS|(MAX|NUM|SORT|PARTITION|PRIMARY|CACHE)(_[A-Z]+)?)_(TOKEN|KEY)$"
)
HARMLESS_VALUE = re.compile(
    r"(?i)^(true|false|yes|no|on|off|none|[0-9]{1,2})?$|^/(etc|var|run|mnt|secrets?|home|root|opt|tmp|usr|data|models|cache|vault|credentials)/"
)
SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"
    r"|(?i:(^|[\s:'\"])(bearer|basic)\s+[a-z0-9._~+/=-]{6,}\s*['\"]?$)"
    r"|://[^\s/:@?#]*:[^\s/@?#]+@"  # a URL with a password
    r"|(?i:(password|passwd|pwd|accountkey|sharedaccesskey|sharedaccesssignature|secret_?access_?key|client_?secret)['\"]?\s*[=:]\s*['\"]?[^\s;'\"]{3,})"
    r"|(?i:[?&;](x-amz-signature|x-goog-signature|signature|sig|token|access_token|api[-_]?key)=[^&\s]{3,})"
    rf"|(^|[^A-Za-z0-9_])({TOKENS})([^A-Za-z0-9_]|$)"
)
"""PEM blocks, Authorization headers, connection strings, signed URLs, tokens that are known by how they begin."""
REFERENCE = re.compile(r"(^|[\s/@=:])[^\s/@=:]*\$\([A-Za-z_][A-Za-z0-9_.-]*\)")
"""$(NAME), with what stands before it in the same word: Kubernetes puts another variable's value there, which may come from a Secret.
A word is entered at its beginning only, so that a long value is read once; the chart reads it too (RE2 has no lookbehind)."""


def looks_secret(name: str, value: str) -> bool:
    """Whether a variable seems to hold a secret itself."""
    value = REFERENCE.sub(r"\1", value)
    by_name = SECRET_NAME.search(name) and not HARMLESS_NAME.search(name) and not HARMLESS_VALUE.search(value)
    return bool(by_name) or bool(SECRET_VALUE.search(value))
