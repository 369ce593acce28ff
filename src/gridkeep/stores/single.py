"""Small objects: each by one request, from memory, which is tried again when what was in its way is soon over.

Done by us, not by the library: it does not repeat what is conditional, as the second answer would hide the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError

from gridkeep.stores.cloud_errors import is_passing

if TYPE_CHECKING:
    from obstore import PutMode, PutResult

    from gridkeep.stores.clouds import Bucket
    from gridkeep.stores.conditions import Conditions

_TRIES, _PAUSE = 3, 0.3  # seconds between: what passes so soon is nobody's trouble
_PATIENCE = 20.0  # seconds after which there is no other try


class SingleRequests:
    """`bucket` gives the open bucket."""

    def __init__(self, bucket: Callable[[], Bucket], conditions: Conditions) -> None:
        self._bucket = bucket
        self._conditions = conditions

    def put(self, path: str, data: bytes, *, if_absent: bool) -> str | None:
        """The etag of what is now under `path`. Raises what obstore raises."""
        request = _Request(self._bucket, path, data)
        if not if_absent:
            return self._conditions.put(path, request.send)["e_tag"]
        try:
            return request.send("create")["e_tag"]
        except AlreadyExistsError:
            if not request.lost:
                raise
            there = obstore.get(self._bucket().reader, path)
            if memoryview(there.bytes()) != data:
                raise
            return there.meta["e_tag"]  # what was lost was an answer only


class _Request:
    """One object on its way. `lost`: a try may have done it, or may do it yet, that was not answered."""

    def __init__(self, bucket: Callable[[], Bucket], path: str, data: bytes) -> None:
        self._bucket = bucket
        self._path = path
        self._data = data
        self.lost = False

    def send(self, mode: PutMode) -> PutResult:
        end, tries_left = time.monotonic() + _PATIENCE, _TRIES
        while True:
            try:
                return obstore.put(
                    self._bucket().once, self._path, self._data, mode=mode, use_multipart=False
                )
            except Exception as error:
                tries_left -= 1
                if not tries_left or time.monotonic() > end or not is_passing(error):
                    raise
            self.lost = True
            time.sleep(_PAUSE)
