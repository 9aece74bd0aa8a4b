"""Who is asking: certificates of the private authority, tokens, and the endpoint that gives them."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Any

import jwt
import trustme

from tests.standin import names
from tests.standin.errors import ServiceError
from tests.standin.state import Folder

LIFE = 24 * 3600


def server_context(folder: Folder) -> ssl.SSLContext:
    """Return the server side of TLS for every name of the stand-in; the authority is made once.

    Parameters
    ----------
    folder : Folder
        Where `ca.pem`, for clients, and the server's certificate are kept.
    """
    chain = folder.root / "server.pem"
    if not chain.exists():
        authority = trustme.CA()
        certificate = authority.issue_cert(*names.HOSTS, f"*.{names.INFERENCE}", "localhost", "127.0.0.1")
        chain.touch(mode=0o600)
        chain.write_bytes(
            certificate.private_key_pem.bytes() + b"".join(part.bytes() for part in certificate.cert_chain_pems)
        )
        authority.cert_pem.write_to_path(str(folder.ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def header(folder: Folder) -> str:
    """Return the secret that a client of the identity endpoint must show."""
    return folder.secret("identity", 16).hex()


@dataclass(frozen=True)
class Tokens:
    """Issue and check tokens.

    Parameters
    ----------
    secret : bytes
        The key of the signature; a token of another stand-in is not accepted.
    """

    secret: bytes

    def issue(self, audience: str, life: float = LIFE, **claims: str) -> tuple[str, int]:
        """Return a token and the second of its end.

        Parameters
        ----------
        audience : str
            The resource that it is for, such as `https://management.azureml.test`.
        life : float
            Seconds; negative for one that has expired.
        **claims
            More claims, such as the run of a job's token.
        """
        now = time.time()
        expires = int(now + life)
        body = {
            "aud": audience.rstrip("/"),
            "iss": f"https://{names.LOGIN}/{names.TENANT}/",
            "iat": int(now),
            "nbf": int(now) - 300,
            "exp": expires,
            "tid": names.TENANT,
            "oid": names.TENANT,
            "name": "Stand In",
            "upn": "stand-in@azureml.test",
            **claims,
        }
        return jwt.encode(body, self.secret, algorithm="HS256"), expires

    def check(self, authorization: str | None, audiences: tuple[str, ...], plane: str) -> dict[str, Any]:
        """Return the claims of an `Authorization` header.

        Raises
        ------
        ServiceError
            401 if there is no token, or it has expired, or it is for somebody else or from somebody else.
        """
        plane = "gateway" if plane == "control" else plane
        if not authorization or not authorization.startswith("Bearer "):
            text = "Authentication failed. The 'Authorization' header is missing."
            raise ServiceError(401, "AuthenticationFailed", text, plane, _challenge())
        try:
            claims: dict[str, Any] = jwt.decode(
                authorization.removeprefix("Bearer "),
                self.secret,
                algorithms=["HS256"],
                audience=list(audiences),
            )
        except jwt.ExpiredSignatureError as error:
            raise expired(plane) from error
        except jwt.InvalidAudienceError as error:
            text = "The access token has been obtained for wrong audience or resource."
            raise ServiceError(401, "InvalidAuthenticationTokenAudience", text, plane, _challenge()) from error
        except jwt.PyJWTError as error:
            text = "The access token is invalid."
            raise ServiceError(401, "InvalidAuthenticationToken", text, plane, _challenge()) from error
        return claims


def expired(plane: str, variant: str = "") -> ServiceError:
    """Return the 401 of a token that has expired, or is of another tenant."""
    plane = "gateway" if plane == "control" else plane
    if variant == "Tenant":
        text = (
            f"The access token is from the wrong issuer 'https://sts.windows.net/{names.TENANT.replace('2', '3')}/'. "
            f"It must match the tenant 'https://sts.windows.net/{names.TENANT}/' associated with this subscription. "
            f"Please use the authority (URL) 'https://login.windows.net/{names.TENANT}' to get the token."
        )
        return ServiceError(401, "InvalidAuthenticationTokenTenant", text, plane, _challenge())
    text = "The access token expiry UTC time is earlier than current UTC time."
    return ServiceError(401, "ExpiredAuthenticationToken", text, plane, _challenge())


def _challenge() -> dict[str, str]:
    return {
        "WWW-Authenticate": f'Bearer authorization_uri="https://{names.LOGIN}/{names.TENANT}", '
        'error="invalid_token", error_description="The authentication failed."'
    }


MANAGEMENT_AUDIENCE = (f"https://{names.MANAGEMENT}",)
STORAGE_AUDIENCE = ("https://storage.azure.com", f"https://{names.BLOB}")
DATA_AUDIENCE = (f"https://{names.MANAGEMENT}", names.AML_RESOURCE)


def metadata() -> list[dict[str, object]]:
    """Return the description of this cloud that clients read first."""
    return [
        {
            "name": names.CLOUD,
            "portal": f"https://{names.PORTAL}",
            "resourceManager": f"https://{names.MANAGEMENT}",
            "authentication": {
                "loginEndpoint": f"https://{names.LOGIN}",
                "audiences": [f"https://{names.MANAGEMENT}", "https://management.core.azureml.test"],
                "tenant": "common",
                "identityProvider": "AAD",
            },
            "suffixes": {"storage": names.STORAGE_SUFFIX, "keyVaultDns": "vault.azureml.test"},
        }
    ]
