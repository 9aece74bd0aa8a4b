"""What a secret looks like in an address or a text, and how it is left out. Standard library only.

`without_secrets` is for what is recorded (params, tags, a dataset's source): of a URL it keeps the address alone.
`redact` is for what is said (errors, logs, tracebacks): it keeps the text, and hides the values of what opens a door.
"""

import re
from urllib.parse import unquote

SHOWN = "***"

# Names whose value opens a door wherever they stand: in a query, a connection string, a header, a call.
_STRONG = (
    r"(?:[\w.-]{0,40}?(?:secret|token|passw(?:or)?d|passphrase|pwd|credentials?|api[-_]?key|access[-_]?key(?:[-_]?id)?|"
    r"account[-_]?key|private[-_]?key|secret[-_]?key|shared[-_]?access[-_]?(?:key|signature))|(?:[\w.-]{0,40}?[_.-])?sas)"
)
# Names that are ordinary words or parameters elsewhere (key=site, sig=0.05, code=5), and doors in a query.
_WEAK = r"sig|signature|x-(?:amz|goog|ms)-\w+|code|key|auth|authorization|hmac|jwt|session\w*"
_AND = r"(?:[?#&;]|%(?:25)*(?:3f|23|26|3b))"
_IS = r"(?:=|%(?:25)*3d)"
_VALUE = r"(?:(?!%(?:25)*26)[^\s&;'\"<>,)\]}])+"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_SAID = (
    _pattern(rf"(?P<name>(?<![\w.-]){_STRONG}['\"]?\s?{_IS}\s?['\"]?){_VALUE}"),
    _pattern(rf"(?P<name>(?P<quote>['\"])(?:{_STRONG}|authorization)(?P=quote)\s*:\s*['\"])[^'\"]+"),
    _pattern(rf"(?P<name>--{_STRONG}\s+)[^\s'\"]+"),
    _pattern(r"(?P<name>\b(?:authorization|(?:x-)?api-key|x-[\w-]*token)\s*:\s*)(?!\*)[^\s,'\"]+(?: [\w.~+/=-]{8,})?"),
    re.compile(r"(?P<name>\b(?:Bearer|Basic) )[\w.~+/=-]{6,}"),
)
_QUERY = _pattern(rf"(?P<name>{_AND}(?:{_WEAK}|{_STRONG}){_IS}){_VALUE}")
# A user, or a token in its place, before the host. After a single slash there is one only with a password:
# models:/name@champion. The scheme has two letters at least: C:/a@b is a path.
_SCHEME = r"\b(?P<scheme>[a-z][a-z\d+.-]{1,30})(?::|%(?:25)*3a)"
_SLASH = r"(?:/|%(?:25)*2f)"
_USER = r"[^\s/?#'\"<>]{0,500}?"
_LOGIN = _pattern(
    rf"(?P<name>{_SCHEME}(?:{_SLASH}{{2,3}}|{_SLASH}(?={_USER}:{_USER}@)))"
    rf"(?P<user>{_USER})(?P<at>(?:@|%(?:25)*40)(?=[^\s@/?#]*(?:[/?#\s'\"]|$)))"
)
# container@account, which is no user.
_CONTAINERS = frozenset(("abfs", "abfss", "wasb", "wasbs", "adl"))
# What is a secret by its form alone.
_FORMS = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*|\b(?:AKIA|ASIA)[A-Z\d]{16}\b|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|"
    r"\bglpat-[\w-]{16,}|\bhf_[A-Za-z\d]{20,}|\bxox[abprs]-[\w-]{10,}|\bdapi[\da-f]{32}\b|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END[A-Z -]*|$)"
)
# A value of a query that was drawn by lot, whatever its name is; the id of a thing (a UUID) is none.
_RANDOM = re.compile(rf"(?P<name>{_AND}[\w.-]+{_IS})(?P<value>(?=[^&\s]*\d)(?=[^&\s]*[A-Za-z])[\w+%=.~-]{{20,}})")
_UUID = _pattern(r"[\da-f]{8}-(?:[\da-f]{4}-){3}[\da-f]{12}")
_URL = _pattern(rf"{_SCHEME}{_SLASH}[^\s'\"<>]+")
_QUESTION = _pattern(r"[?#]|%(?:25)*(?:3f|23)")


def redact(text: str) -> str:
    """Leave out of a text what opens a door: signatures, tokens, keys, and the users of addresses."""
    text = _URL.sub(lambda found: _url(found[0]), text)
    for pattern in _SAID:
        text = pattern.sub(lambda found: f"{found['name']}{SHOWN}", text)
    return _FORMS.sub(SHOWN, text)


def holds_secret(address: str) -> bool:
    """Whether an address holds a user, a signature, a token or a password, also where it is percent-encoded."""
    plain = _decoded(address)
    return ":/" in plain and (redact(plain) != plain or redact(address) != address)


def without_secrets(address: str) -> str:
    """Return an address without user, password, query and fragment; a text that is no URL without what `redact` hides.

    A local path may hold ``?``, ``@`` and ``#``.
    """
    plain = _decoded(address)
    if "://" not in plain:
        return redact(address)
    found = _links(address if "://" in address else plain)
    if holds_secret(found):
        found = _links(plain)
    return redact(found)


def _url(address: str) -> str:
    """Hide what a URL in a text holds; its whole query where a secret is spelled with escapes."""
    if ":/" not in address:  # as a whole it is the value of something, with escapes for its own punctuation
        plain = _decoded(address)
        hidden = _hide(plain)
        return address if hidden == plain else hidden
    hidden = _hide(address)
    plain = _decoded(hidden)
    if plain == hidden or _hide(plain) == plain:
        return hidden
    start = _QUESTION.search(hidden)
    return f"{hidden[: start.end()]}{SHOWN}" if start else _hide(plain)


def _hide(address: str) -> str:
    address = _LOGIN.sub(_without_user, address)
    address = _QUERY.sub(lambda found: f"{found['name']}{SHOWN}", address)
    return _RANDOM.sub(
        lambda found: found[0] if _UUID.fullmatch(found["value"]) else f"{found['name']}{SHOWN}", address
    )


def _without_user(found: re.Match[str]) -> str:
    if found["scheme"].casefold() in _CONTAINERS and ":" not in found["user"]:
        return found[0]
    return f"{found['name']}{SHOWN}{found['at']}"


def _links(address: str) -> str:
    """Take each link of an fsspec chain by itself: zip://inner.csv::https://user@host/archive.zip?sig=..."""
    return "::".join(_without(link) for link in address.split("::"))


def _without(link: str) -> str:
    scheme, found, rest = link.partition("://")
    if not found:
        return link
    authority, slash, path = _QUESTION.split(rest, maxsplit=1)[0].partition("/")
    user, _, host = authority.rpartition("@")
    is_container = scheme.casefold() in _CONTAINERS and ":" not in user
    return f"{scheme}://{authority if is_container else host}{slash}{path}"


def _decoded(text: str) -> str:
    """Undo percent-encoding, however often it was done."""
    for _ in range(5):
        if (plain := unquote(text)) == text:
            break
        text = plain
    return text
