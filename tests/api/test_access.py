"""Who may come in: keys, roles, cookies, login links, and who may not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.runs.access import revoke_key
from tests.api.serving import Served

WHO = "/v1/login-links"  # any call that needs a key and changes nothing


def asked(served: Served, **headers: str) -> httpx.Response:
    return served.client(None).post(WHO, headers=headers)


def test_a_key_opens_by_either_header(served: Served) -> None:
    key = served.key(Role.READ)
    assert asked(served, **{"x-api-key": key}).status_code == 200
    assert asked(served, authorization=f"Bearer {key}").status_code == 200
    assert asked(served, authorization=f"bearer  {key}").status_code == 200


def test_the_header_x_api_key_wins(served: Served) -> None:
    key = served.key()
    wrong = {"x-api-key": "gk_wrong", "authorization": f"Bearer {key}"}
    assert asked(served, **wrong).status_code == 403
    assert asked(served, **{"x-api-key": key, "authorization": "Bearer gk_wrong"}).status_code == 200


def test_a_wrong_key_is_told_so_and_nothing_more(own_server: Served) -> None:
    key = own_server.key()
    wrong = [{"x-api-key": text} for text in ("", key[:-1], key + "x", "gk__")]
    for headers in ({}, *wrong, {"authorization": "Bearer gk_"}):
        answer = asked(own_server, **headers)
        assert (answer.status_code, answer.json()) == (403, {"detail": "Invalid credentials"})


def test_its_last_use_is_noted(served: Served) -> None:
    begun, key = time.time(), served.key(Role.READ)
    used = lambda: served.context.catalog.key(key.split("_")[1]).last_used_at  # type: ignore[union-attr]  # noqa: E731
    assert used() is None
    assert asked(served, **{"x-api-key": f"{key[:-1]}-"}).status_code == 403
    assert used() is None
    assert asked(served, **{"x-api-key": key}).status_code == 200
    assert begun <= (used() or 0) <= time.time()


def test_the_secret_of_one_key_does_not_fit_the_id_of_another(served: Served) -> None:
    first, second = served.key().split("_", 2), served.key().split("_", 2)
    assert asked(served, **{"x-api-key": "_".join([*first[:2], second[2]])}).status_code == 403


def test_a_revoked_key_is_no_good_at_once(served: Served) -> None:
    key = served.key()
    assert asked(served, **{"x-api-key": key}).status_code == 200
    revoke_key(served.context.catalog, key.split("_")[1], who="me")
    assert asked(served, **{"x-api-key": key}).status_code == 403


def test_wrong_keys_wait_longer_and_longer_and_the_right_one_does_not(own_server: Served) -> None:
    key, waited = own_server.key(), []
    for _ in range(7):
        begun = time.monotonic()
        assert asked(own_server, **{"x-api-key": "gk_wrong_key"}).status_code == 403
        waited.append(time.monotonic() - begun)
    for number, at_least in ((3, 0.1), (4, 0.2), (5, 0.4), (6, 0.8)):
        assert waited[number] > at_least
    with ThreadPoolExecutor(1) as pool:  # the next waits 3 s, and others do not wait for it
        wrong = pool.submit(
            httpx.post, f"{own_server.url}{WHO}", headers={"x-api-key": "gk_wrong_key"}, timeout=30
        )
        assert asked(own_server, **{"x-api-key": key}).status_code == 200
        assert not wrong.done()
        assert wrong.result().status_code == 403


# ------------------------------------------------------------------------------------------------------------- browsers


def visit(link: str) -> httpx.Client:
    """A browser that has opened the link."""
    parts = urlsplit(link)
    browser = httpx.Client(base_url=f"{parts.scheme}://{parts.netloc}")
    browser.get(f"/login?{parts.query}")
    return browser


def test_the_printed_link_lets_one_browser_in(own_server: Served) -> None:
    first = httpx.get(own_server.login_link)
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert first.status_code == 200 and "url=/" in first.text
    second = httpx.get(own_server.login_link)
    assert second.status_code == 403 and "set-cookie" not in second.headers


def test_a_link_made_with_a_key_acts_as_that_key_and_ends_with_it(served: Served) -> None:
    key = served.key(Role.READ)
    browser = visit(asked(served, **{"x-api-key": key}).json()["url"])
    assert browser.get("/v1/runs").status_code == 200
    revoke_key(served.context.catalog, key.split("_")[1], who="me")
    assert browser.get("/v1/runs").status_code == 403


def test_a_key_typed_in_the_page_lets_in(served: Served) -> None:
    browser = httpx.Client(base_url=served.url)
    same = {"sec-fetch-site": "same-origin"}
    wrong = browser.post("/login", data={"key": "gk_no_key"}, headers=same)
    assert wrong.status_code == 403 and "set-cookie" not in wrong.headers
    right = browser.post("/login", data={"key": served.key()}, headers=same)
    assert (right.status_code, right.headers["location"]) == (303, "/")
    assert browser.get("/v1/runs").status_code == 200
    assert browser.post("/logout", headers=same).status_code == 303
    assert browser.get("/v1/runs").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
    ],
    ids=str,
)
def test_a_page_of_another_site_changes_nothing(served: Served, headers: dict[str, str]) -> None:
    browser = visit(served.post(WHO).json()["url"])
    assert browser.get("/v1/runs").status_code == 200
    refused = browser.post("/v1/runs/nothing/cancel", headers=headers)
    assert refused.status_code == 403 and "another site" in refused.json()["detail"]
    assert httpx.post(f"{served.url}/login", data={"key": served.key()}, headers=headers).status_code == 403
    for own in ({"sec-fetch-site": "same-origin"}, {"origin": served.url}):
        assert browser.post("/v1/runs/nothing/cancel", headers=own).status_code == 404


# ----------------------------------------------------------------------------------------------------------------- gate


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", "[::2]", ""]
)
def test_a_foreign_host_is_refused(served: Served, host: str) -> None:
    port = urlsplit(served.url).port
    for name in (host, f"{host}:{port}"):
        assert served.get("/healthz", headers={"host": name}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_names_of_its_own_are_answered(served: Served, host: str) -> None:
    for name in (host, f"{host}:1234"):
        assert served.get("/healthz", headers={"host": name}).status_code == 200


def test_every_answer_says_that_it_is_what_it_says_it_is(served: Served) -> None:
    for path in ("/healthz", "/v1/runs", "/nothing", "/login"):
        headers = served.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
