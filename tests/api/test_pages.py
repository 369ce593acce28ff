"""The pages as a browser without scripts has them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.runs.shares import Place, make_share
from tests.api.browsing import many
from tests.api.serving import Served
from tests.unit.made import keep, make_run

pytestmark = pytest.mark.xdist_group("pages")


class Forms(HTMLParser):
    """The forms and links of a page, as a browser without scripts has them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fields: list[dict[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("input", "button") and "name" in found:
            self.fields.append(found)


@pytest.fixture
def person(served: Served) -> Iterator[httpx.Client]:
    """A browser without scripts, that has typed its key."""
    same = {"sec-fetch-site": "same-origin", "accept": "text/html"}
    with httpx.Client(base_url=served.url, headers=same, follow_redirects=True, timeout=30) as client:
        assert client.post("/login", data={"key": served.key()}).status_code == 200
        yield client


# ---------------------------------------------------------------------------------------------------- without scripts


def test_a_stranger_is_led_to_the_way_in_and_back(served: Served) -> None:
    make_run(served.context, "wanted", ["completed"])
    with httpx.Client(base_url=served.url, headers={"sec-fetch-site": "same-origin"}) as client:
        for path in ("/", "/runs/wanted", "/runs/nothing", "/experiments/wanted-exp0/files?path=a%2F"):
            answer = client.get(path)
            assert answer.status_code == 303
            assert unescape(answer.headers["location"]).startswith("/login?next=%2F")
        form = client.get(answer.headers["location"])
        [following] = [one["value"] for one in Forms(form.text).fields if one["name"] == "next"]
        assert following == path
        right = client.post("/login", data={"key": served.key(), "next": following})
        assert (right.status_code, right.headers["location"]) == (303, path)


@pytest.mark.parametrize(
    "following", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nX: y"]
)
def test_the_way_in_leads_nowhere_else(served: Served, following: str) -> None:
    same = {"sec-fetch-site": "same-origin"}
    form = {"key": served.key(), "next": following}
    assert httpx.post(f"{served.url}/login", data=form, headers=same).headers["location"] == "/"


def test_from_another_site_the_cookie_is_asked_for_again(served: Served) -> None:
    """A strict cookie does not come along with the first request from another site's page."""
    answer = httpx.get(f"{served.url}/runs/x?a=1&b=2", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0; url=/runs/x?a=1&amp;b=2"' in answer.text


def test_from_the_runs_to_the_bytes_of_a_selected_experiment(served: Served, person: httpx.Client) -> None:
    _, experiments = make_run(served.context, "selecting", ["completed"] * 4)
    for one in experiments:
        keep(served.context, one, b"out/result.txt", b"result of %d" % one.index)
    assert "/runs/selecting" in Forms(person.get("/", params={"q": "SELECT"}).text).links
    page = person.get("/runs/selecting")
    boxes = [one for one in Forms(page.text).fields if one["name"] == "e"]
    assert [(box["type"], box["value"]) for box in boxes] == [("checkbox", str(i)) for i in range(4)]
    page = person.get("/runs/selecting/artifacts", params={"e": ["1", "3"]})
    for i in range(4):
        assert (f"selecting-exp{i}" in page.text) == (i in (1, 3))
    archives = [link for link in Forms(page.text).links if "archive" in link]
    for link in archives:
        names = zipfile.ZipFile(io.BytesIO(person.get(link).content)).namelist()
        assert any(name.endswith("out/result.txt") for name in names)
    assert len(archives) == 5  # of both, of each, and of a folder in each
    saves = [link for link in Forms(page.text).links if link.endswith("?download=1")]
    assert [person.get(link).content for link in saves] == [b"result of 1", b"result of 3"]
    links = [one for one in Forms(page.text).fields if one["name"] == "of"]
    of_file = next(one["value"] for one in links if one["value"].startswith("art_"))
    for of, text in ((of_file, b"result of 1"), ("selecting-exp3/out/result.txt", b"result of 3")):
        made = person.post("/links", data={"of": of})
        assert made.status_code == 201
        [shared] = re.findall(r'value="(http[^"]*/s/[^"]*)"', made.text)
        assert httpx.get(shared).content == text  # by anybody


def test_without_a_selection_all_are_shown(served: Served, person: httpx.Client) -> None:
    make_run(served.context, "unselected", ["completed"] * 30)
    path, names = "/runs/unselected/artifacts", list[str]()
    for _ in range(3):
        page = person.get(path)
        names += re.findall(r"<h2[^>]*>(unselected-exp\d+)<", page.text)
        following = [link for link in Forms(page.text).links if "from=" in link]
        if not following:
            break
        [path] = following
    assert names == [f"unselected-exp{i}" for i in range(30)]
    assert person.get("/runs/unselected/artifacts?e=99").status_code == 404
    assert person.get("/runs/unselected/artifacts?e=x").status_code == 422


def test_the_pages_of_runs_have_each_once(own_server: Served) -> None:
    names = [f"run-{i}" for i in range(120)]
    for name in names:
        make_run(own_server.context, name, ["completed"], created_by="ann")
    client, path, found = own_server.client(Role.READ, user="bob"), "/", list[str]()
    while path:
        page = client.get(path)
        found += re.findall(r'href="/runs/(run-\d+)"', page.text)
        path = next((link for link in Forms(page.text).links if "before=" in link), "")
    assert found == names[::-1]
    assert not re.findall(r'href="/runs/(run-\d+)"', client.get("/?who=me").text)
    assert "Show all runs" in client.get("/?state=failed").text


def test_others_see_a_run_and_do_not_share_it(served: Served) -> None:
    _, [experiment] = make_run(served.context, "of-ann", ["completed"], created_by="ann")
    artifact = keep(served.context, experiment, b"a.txt", b"a")
    for bob in (served.client(Role.READ, user="bob"), served.client(Role.WRITE, user="bob")):
        page = bob.get("/runs/of-ann/artifacts")
        assert "a.txt" in page.text
        assert not [one for one in Forms(page.text).fields if one["name"] == "of"]
        for of in (artifact.artifact_id, "of-ann", "of-ann-exp0", "of-ann-exp0/a.txt"):
            assert bob.post("/links", data={"of": of}).status_code == 403
    assert served.client(Role.WRITE, user="ann").post("/links", data={"of": "of-ann"}).status_code == 201


def test_links_are_listed_with_their_opens_and_revoked(served: Served, person: httpx.Client) -> None:
    _, [experiment] = make_run(served.context, "linked", ["completed"])
    keep(served.context, experiment, b"out/<b>.txt", b"shown")
    make_run(served.context, "elsewhere", ["completed"])
    for of in ("linked", "linked-exp0/out/<b>.txt", "elsewhere"):
        [shared] = re.findall(r'value="(http[^"]*/s/[^"]*)"', person.post("/links", data={"of": of}).text)
        if of.endswith(".txt"):
            assert [httpx.get(shared).text for _ in range(3)] == ["shown"] * 3
            link = shared
    everything = person.get("/shares")
    assert "elsewhere" in everything.text and "<b>" not in everything.text.partition("<main")[2]
    page = person.get("/runs/linked")
    assert "/shares?run=linked" in Forms(page.text).links
    page = person.get("/shares?run=linked")
    assert "elsewhere" not in page.text
    rows = re.findall(r'<tr id="(shr_\w+)">(.*?)</tr>', page.text, re.DOTALL)
    assert [('title="3 times"' in row, "live" in row) for _, row in rows] == [(True, True), (False, True)]
    action = f"/shares/{rows[0][0]}/revoke?run=linked"
    assert action in page.text
    refused = person.post(action, headers={"sec-fetch-site": "cross-site"})
    assert refused.status_code == 403 and httpx.get(link).status_code == 200
    after = person.post(action)
    assert (
        str(after.url).endswith("/shares?run=linked") and action not in after.text and "revoked" in after.text
    )
    assert httpx.get(link).status_code == 410
    assert served.context.catalog.audit(limit=1)[0].action == "share.revoke"
    for nothing in ("/shares?run=nothing", "/shares/shr_x/revoke"):
        method = "POST" if nothing.endswith("revoke") else "GET"
        assert person.request(method, nothing).status_code == 404


def test_who_may_not_end_a_link_sees_no_button(served: Served) -> None:
    make_run(served.context, "of-eve", ["completed"], created_by="eve")
    eve, bob = (served.client(Role.WRITE, user=user) for user in ("eve", "bob"))
    assert eve.post("/links", data={"of": "of-eve"}).status_code == 201
    [action] = re.findall(r'action="(/shares/shr_\w+/revoke)"', eve.get("/shares").text)
    assert "No links yet" in bob.get("/shares?run=of-eve").text
    assert "of-eve" in served.client(Role.READ, user="eve").get("/shares").text
    assert action not in served.client(Role.READ, user="eve").get("/shares").text
    for client in (bob, served.client(Role.READ, user="eve")):
        assert client.post(action).status_code == 403
    assert action in served.get("/shares").text  # an admin may
    assert eve.post(action).status_code == 303
    assert action not in eve.get("/shares").text


def test_the_pages_of_links_have_each_once(own_server: Served) -> None:
    run, _ = make_run(own_server.context, "shared-much", ["completed"])
    made = [
        make_share(own_server.context.catalog, Place(run), by="me", ttl=60)[0].share_id for _ in range(230)
    ]
    path, found = "/shares?run=shared-much", list[str]()
    while path:
        page = own_server.get(path)
        found += re.findall(r'<tr id="(shr_\w+)">', page.text)
        path = next((link for link in Forms(page.text).links if "before=" in link), "")
    assert found == sorted(made, reverse=True)


def test_what_is_not_there_is_said_on_a_page(person: httpx.Client) -> None:
    for path in ("/runs/nothing", "/runs/nothing/artifacts", "/experiments/no-exp0/files", "/runs/%3Cb%3E"):
        answer = person.get(path)
        assert answer.status_code == 404
        assert "<!doctype html>" in answer.text
        assert "<b>" not in answer.text.partition("<main")[2]
    assert person.get("/?state=other").status_code == 422
    for of in ("art_nothing", "nothing", "nothing/a", "/", "", "x-exp0/%2F"):
        assert person.post("/links", data={"of": of}).status_code in (404, 422)


def test_a_page_says_what_a_browser_may_do_with_it(served: Served, person: httpx.Client) -> None:
    first, second = person.get("/"), person.get("/")
    policy = first.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    nonces = {re.search("nonce-([^']+)", one.headers["content-security-policy"]) for one in (first, second)}
    assert len({found[1] for found in nonces if found}) == 2
    assert first.headers["cache-control"] == "no-store"
    style = next(iter(re.findall(r'href="(/static/[^"]+\.css)"', first.text)))
    answer = httpx.get(served.url + style)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in answer.headers["cache-control"]
    for path in (
        "/static/x/..%2fpages.py",
        "/static/x/nothing.css",
        "/static/x/app.css%00",
        "/static/x/.css",
    ):
        assert httpx.get(served.url + path).status_code == 404


def test_a_hundred_thousand_files_are_shown_in_parts(served: Served, person: httpx.Client) -> None:
    _, [experiment] = make_run(served.context, "huge", ["completed"])
    paths = [b"part-%02d/%05d.bin" % (i % 100, i) for i in range(100_000)]
    for start in range(0, len(paths), 20_000):
        many(served.context, experiment, paths[start : start + 20_000])
    page = person.get("/runs/huge/artifacts")
    assert len(page.content) < 200_000
    folders = [link for link in Forms(page.text).links if link.startswith("/experiments/")]
    assert len(folders) == 100
    names, path = list[str](), folders[7]
    while path:
        page = person.get(path)
        assert len(page.content) < 300_000
        names += re.findall(r'<span class="nm[^>]*>(\d{5}\.bin)<', page.text)
        path = next((link for link in Forms(page.text).links if "after=" in link), "")
    assert names == [f"{i:05}.bin" for i in range(7, 100_000, 100)]
