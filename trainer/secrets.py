"""What a secret looks like in an address or a text, and how it is left out. Standard library only."""

import re
from urllib.parse import unquote

SHOWN = "***"

# Of a query, a connection string or a header: names whose values open a door, however they are spelled.
_NAMES = (
    r"sig|se?cret|\w*token|\w*passw(?:or)?d|pwd|\w*api[-_]?key|\w*access[-_]?key(?:[-_]?id)?|account[-_]?key|"
    r"shared[-_]?access[-_]?signature|x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|"
    r"code|auth\w*|client[-_]?secret|credential\w*|signature|key"
)
_PAIR = re.compile(rf"(?P<name>(?<![\w-])(?:{_NAMES})(?:=|%3d))(?P<value>[^\s&;'\"<>,)]+)", re.IGNORECASE)
# In an Azure storage address, what stands before @ is a container: abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/...
_CONTAINER = re.compile(r"(?:abfs|wasb)s?", re.IGNORECASE)
_LOGIN = re.compile(
    rf"(?<![\w+.-])(?!{_CONTAINER.pattern}://[^\s/@:'\"]+@)(?P<scheme>[a-z][\w+.-]*://)[^\s/@'\"]+@", re.IGNORECASE
)
_JWT = re.compile(r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")
_BEARER = re.compile(r"(?P<word>\b(?:Bearer|Basic) )[\w.~+/=-]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Leave out of a text what opens a door: signatures, tokens, keys, and the users of addresses."""
    text = _LOGIN.sub(lambda found: f"{found['scheme']}{SHOWN}@", text)
    text = _PAIR.sub(lambda found: f"{found['name']}{SHOWN}", text)
    return _BEARER.sub(lambda found: f"{found['word']}{SHOWN}", _JWT.sub(SHOWN, text))


def holds_secret(address: str) -> bool:
    """Whether an address holds a user, a signature, a token or a password, also where it is percent-encoded."""
    plain = _decoded(address)
    return "://" in plain and (redact(plain) != plain or redact(address) != address)


def without_secrets(address: str) -> str:
    """Return an address without user, password, query and fragment; anything that is not a URL as it is.

    A local path may hold ``?``, ``@`` and ``#``.
    """
    if "://" not in _decoded(address):
        return address
    if "://" not in address or "?" in unquote(address).partition("?")[0]:
        address = _decoded(address)
    # fsspec's chains: zip://inner.csv::https://user@host/archive.zip?sig=...
    return "::".join(_without(link) for link in address.split("::"))


def _without(link: str) -> str:
    if "://" not in link:
        return link
    scheme, _, rest = link.partition("://")
    rest = re.split(r"[?#]|%3f", rest, maxsplit=1, flags=re.IGNORECASE)[0]
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    shown = authority if _CONTAINER.fullmatch(scheme) and ":" not in user else host
    return f"{scheme}://{shown}{slash}{path}"


def _decoded(text: str) -> str:
    """Undo percent-encoding, also where it was done twice."""
    for _ in range(3):
        if (plain := unquote(text)) == text:
            break
        text = plain
    return text
