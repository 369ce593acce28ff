"""What the clouds' libraries raise, in the words and classes of `errors`.

Only codes, states and regions are taken from what a library says: its own text may hold addresses, and these may hold
signatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gridkeep.errors import (
    NoCredentials,
    ObjectExists,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

_UNKNOWN_CREDENTIALS = {
    "AuthenticationFailed",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidSecurity",
    "InvalidToken",
    "NoAuthenticationInformation",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "invalid_client",
    "invalid_grant",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"}
_OTHER_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "StorageQuotaExceeded"}
CONFLICT = "ConditionalRequestConflict"  # of S3: two writers of a key at the same moment
_BUSY = {
    CONFLICT,
    "InternalError",
    "InvalidBlockList",  # of Azure, when another writer of the same key was faster
    "OperationAborted",
    "RequestTimeout",
    "ServerBusy",
    "ServiceUnavailable",
    "SlowDown",
}
_DAMAGED = {"BadDigest", "IncompleteBody", "InvalidDigest", "Md5Mismatch", "XAmzContentSHA256Mismatch"}

_TLS = re.compile(r"certificate|tls|ssl|corrupt ?message|InvalidContentType", re.IGNORECASE)
_NO_HOST = re.compile(r"dns error|name resolution|name or service not known|NameResolution", re.IGNORECASE)
_TIMEOUT = re.compile(r"kind: Timeout|TimedOut|timed out|TimeoutError", re.IGNORECASE)
_METADATA = re.compile(r"169\.254\.|metadata\.google|computeMetadata|metadata/identity")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an error comes down to. `text` is searched, never shown."""

    code: str
    status: int
    region: str
    text: str


def answer_of(error: BaseException) -> Answer:
    """From an error of botocore or obstore."""
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        about, meta = response["Error"], response.get("ResponseMetadata", {})
        code, status = str(about.get("Code", "")), int(meta.get("HTTPStatusCode", 0))
        headers = meta.get("HTTPHeaders", {})
        return Answer(code, status, str(headers.get("x-amz-bucket-region") or about.get("Region") or ""), "")
    text = f"{type(error).__name__} {error}"
    code = _first(r"<Code>(\w+)</Code>|(?<!status )code: (\w+)|\"error\": ?\\?\"(\w+)|Code: (\w+)", text)
    status = int(_first(r"status code: (\d{3})|status: (\d{3})", text) or 0)
    return Answer(code, status, _first(r"<Region>([\w-]+)</Region>", text), text)


def is_beyond(error: Exception) -> bool:
    """Whether a range was asked for that begins at or after the object's end."""
    answer = answer_of(error)
    return answer.status == 416 or "StartTooLarge" in answer.text


def is_unmet(error: Exception) -> bool:
    """Whether a put was refused because what it may replace is not what is there."""
    answer = answer_of(error)
    if answer.code == CONFLICT:
        return False  # it is decided when the other writer is done
    return type(error).__name__ in ("AlreadyExistsError", "PreconditionError") or (
        answer.status == 412 or answer.code == "NoSuchKey"
    )


def is_unable(error: Exception) -> bool:
    """Whether the store knows no such condition."""
    answer = answer_of(error)
    return answer.status == 501 or answer.code == "NotImplemented" or "NotImplementedError" in answer.text


def is_passing(error: Exception) -> bool:
    """Whether the same put may succeed in a moment."""
    trouble = translated(error, "", "write to")
    passing = isinstance(trouble, StoreUnavailable) and not isinstance(trouble, NoCredentials)
    return passing and not is_unmet(error) and not is_unable(error)


def is_damage(error: Exception) -> bool:
    """Whether the store got, or would have got, other bytes than were hashed."""
    answer = answer_of(error)
    return answer.code in _DAMAGED or isinstance(error, StoreUnavailable) or "Shortened" in answer.text


def translated(error: Exception, uri: str, doing: str, key: str = "") -> StoreError:
    """The error to raise in its place. `doing` is what was refused if it was: `write to`, `read`, `list`, `delete from`."""
    if isinstance(error, StoreError):
        return error
    answer = answer_of(error)
    name = type(error).__name__
    if answer.code == "NoSuchUpload":
        return StoreUnavailable(f"The upload of {uri}{key} was ended by somebody else.", "It is sent again.")
    if answer.code in _NO_BUCKET:
        return StoreDenied(f"There is no bucket for {uri}.", "Make the bucket, or name another.")
    if answer.code == CONFLICT:
        return StoreUnavailable(f"The object {uri}{key} is written by another, too.", "It is sent again.")
    if name == "AlreadyExistsError" or (name != "PreconditionError" and answer.code == "PreconditionFailed"):
        return ObjectExists(f"The store {uri} has an object {key} already.")
    if name == "PreconditionError":
        return StoreUnavailable(f"The object {uri}{key} was replaced while it was read.", "Read it again.")
    if isinstance(error, FileNotFoundError) or answer.status == 404:
        return ObjectMissing(f"The store {uri} has no object {key}.")
    return _refusal(answer, uri, doing) or _passing(answer, name, uri) or _other(answer, name, uri, doing)


def _refusal(answer: Answer, uri: str, doing: str) -> StoreError | None:
    """What does not pass by itself."""
    if answer.code in EXPIRED:
        return NoCredentials(
            f"The credentials for {uri} have expired.", "Renew them, for example by `aws sso login`."
        )
    if answer.code == "RequestTimeTooSkewed":
        return StoreDenied(
            f"The store {uri} refuses: this machine's clock is wrong.", "Set the clock, best by NTP."
        )
    if answer.code in _OTHER_REGION or answer.status in (301, 307) or "BareRedirect" in answer.text:
        where = f": it is in {answer.region}" if answer.region else ""
        return StoreDenied(
            f"The bucket of {uri} is not in the region that was named{where}.",
            "Name its region with `--region`, or in AWS_REGION.",
        )
    if answer.code in _UNKNOWN_CREDENTIALS or answer.status == 401:
        said = f" ({answer.code})" if answer.code else ""
        return StoreDenied(
            f"The store {uri} does not accept the credentials{said}.",
            "Check them where they are set: variables, profile, or file.",
        )
    if answer.code in _FULL or answer.status == 507:
        return StoreFull(f"The store {uri} is full.", "Make room in it, or raise its quota.")
    if answer.status == 403 or answer.code in ("AccessDenied", "AllAccessDisabled", "AuthorizationFailure"):
        return StoreDenied(
            f"The credentials give no right to {doing} {uri}.", "Ask whoever owns the bucket for that right."
        )
    return None


def _passing(answer: Answer, name: str, uri: str) -> StoreUnavailable | None:
    """What may be over at the next try."""
    if answer.code in _DAMAGED:
        return StoreUnavailable(f"Bytes were damaged on their way to {uri}.", "They are sent again.")
    if answer.code in _BUSY or answer.status == 429 or answer.status >= 500:
        said = answer.code or f"status {answer.status}"
        return StoreUnavailable(f"The store {uri} is overloaded or failing ({said}).", "Try again later.")
    if answer.status:
        return None
    if name in ("NoCredentialsError", "PartialCredentialsError") or "NoCredentialsError" in answer.text:
        return _no_credentials(uri)
    if _METADATA.search(answer.text):
        return _no_credentials(uri)
    if "Credential" in name or name in ("UnauthenticatedError", "TokenRetrievalError"):
        return NoCredentials(
            f"The credentials for {uri} could not be had or renewed.", "Log in to the cloud again."
        )
    if _NO_HOST.search(answer.text):
        return StoreUnavailable(f"The host of {uri} is not known.", "Check `--endpoint`, and the network.")
    if _TLS.search(answer.text):
        return StoreUnavailable(
            f"No secure connection to {uri} could be made (TLS).",
            "Check its certificate; an endpoint without TLS begins with http://.",
        )
    if _TIMEOUT.search(answer.text):
        return StoreUnavailable(f"The store {uri} did not answer in time.", "Check the network.")
    if re.search(r"HTTP error|HttpError|Connect|HTTPClientError|connection", answer.text):
        return StoreUnavailable(f"The store {uri} cannot be reached.", "Check `--endpoint`, and the network.")
    return None


def _no_credentials(uri: str) -> NoCredentials:
    return NoCredentials(
        f"No credentials for {uri} were found.",
        "Set them in the usual way of its cloud: variables, profile, file, or the machine's role.",
    )


def _other(answer: Answer, name: str, uri: str, doing: str) -> StoreError:
    said = answer.code or (f"status {answer.status}" if answer.status else name)
    if answer.status == 501 or answer.code == "NotImplemented":
        return StoreError(
            f"The store {uri} cannot do what Gridkeep needs ({said}).", "Use one with conditional writes."
        )
    return StoreError(
        f"The store {uri} did not do what it was asked, to {doing} it ({said}).", "Run `grid cluster check`."
    )


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return next((group for group in found.groups() if group), "") if found else ""
