"""The pages as people have them: without scripts by a plain client, and in a real Chromium. What files are called and what
is in them is hostile."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, expect, sync_playwright

from gridkeep.catalog.access import Role
from gridkeep.model import Artifact, ArtifactState, Experiment, State, new_ulid
from gridkeep.runs.context import Context
from tests.api.serving import Served
from tests.unit.made import finish, keep, make_run

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update")
pytestmark = pytest.mark.xdist_group("pages")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

HOSTILE = [
    b"<img src=x onerror=pwn()>.txt",
    b"<script>pwn()<",
    b'"><svg onload=pwn()>.txt',
    b"' onmouseover='pwn()'.txt",
    b"{{ pwn() }}${pwn()}.txt",
    b"\x1b]0;pwn\x07\r\nX-Pwn: 1.txt",
    "\u202egpj.exe".encode(),
    "\U0001f600\U00020000.txt".encode(),
    b"not utf-8 \xff\xfe.bin",
    b"%2e%2e%2f&e=1#x?.txt",
    b"javascript:pwn().txt",
    b"n" * 250,
]


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


def many(context: Context, experiment: Experiment, paths: list[bytes]) -> None:
    """Artifacts in the catalog only."""
    artifacts = [
        Artifact(
            artifact_id=f"art_{new_ulid()}",
            experiment_id=experiment.experiment_id,
            path=path,
            state=ArtifactState.PENDING,
        )
        for path in paths
    ]
    context.catalog.record_artifacts(experiment.experiment_id, artifacts)


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


# ------------------------------------------------------------------------------------------------------- in Chromium


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=60_000)  # ms; the machine may be busy
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def cookies(served: Served, chromium: Browser) -> Any:
    """Those of a browser whose person has typed a key."""
    context = chromium.new_context()
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(f"{served.url}/login")
    page.get_by_label("API key").fill(served.key())
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    found = context.storage_state()
    context.close()
    return found


@pytest.fixture
def visitor(served: Served, chromium: Browser, cookies: Any) -> Iterator[BrowserContext]:
    """A browser that was let in, and that has run nothing it should not."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, storage_state=cookies)
    context.set_default_timeout(60_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=served.url)
    troubles: list[str] = []

    def shown(dialog: Dialog) -> None:
        troubles.append(dialog.message)
        dialog.dismiss()

    def said(message: ConsoleMessage) -> None:
        refused = message.text.startswith("Blocked script execution")  # of an artifact: as it should be
        if message.type == "error" and not refused:
            troubles.append(message.text)

    context.on("weberror", lambda error: troubles.append(str(error.error)))
    context.on("dialog", shown)
    context.on("console", said)
    context.add_init_script("window.pwned = 0; window.pwn = () => { window.pwned += 1; }")
    yield context
    context.close()
    assert not troubles


def wide(page: Page) -> int:
    """How many pixels of it lie beyond the window."""
    beyond: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return beyond


@needs_chromium
def test_hostile_names_are_shown_and_do_nothing(served: Served, visitor: BrowserContext) -> None:
    _, [experiment] = make_run(
        served.context,
        "hostile",
        ["running"],
        params={"<b onclick=pwn()>": "</td><script>pwn()</script>"},
        created_by="<i>mallory</i>",
    )
    for name in HOSTILE:
        keep(served.context, experiment, b"dir/" + name, b"x")
    finish(served.context, experiment, "failed", reason="<img src=x onerror=pwn()>")
    page = visitor.new_page()
    for path in ("/?q=<script>pwn()</script>", "/?q=hostile", "/runs/hostile", "/runs/hostile/artifacts"):
        page.goto(served.url + path)
        assert page.evaluate("window.pwned") == 0
        for width in (1280, 320):
            page.set_viewport_size({"width": width, "height": 600})
            assert wide(page) <= 0
    shown = page.locator(".leaf .nm").all_text_contents()
    assert sorted(shown) == sorted(
        [
            *(name.decode() for name in HOSTILE if name.isascii() and name.decode().isprintable()),
            "\\x1b]0;pwn\\x07\\r\\nX-Pwn: 1.txt",
            "\\u202egpj.exe",
            "\U0001f600\U00020000.txt",
            "not utf-8 \\xff\\xfe.bin",
        ]
    )
    for i in range(len(HOSTILE)):  # each leads to the file that it names
        href = page.locator(".leaf a.nm").nth(i).get_attribute("href") or ""
        assert served.get(href).content == b"x"


ATTACK = """
document.title = 'ran';
try { fetch('/v1/runs?ran'); new Image().src = '/?ran'; } catch (e) {}
try { localStorage.ran = 1; } catch (e) {}
try { document.cookie = 'ran=1'; } catch (e) {}
"""
HTML = (
    f'<!doctype html><title>still</title><script>{ATTACK}</script><body onload="{ATTACK.strip()}">'.encode()
)
SVG = f'<svg xmlns="http://www.w3.org/2000/svg"><title>still</title><script>{ATTACK}</script></svg>'.encode()
XHTML = f'<html xmlns="http://www.w3.org/1999/xhtml"><title>still</title><script>{ATTACK}</script></html>'.encode()


@needs_chromium
@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"page.html", HTML),
        (b"page.htm", HTML),
        (b"picture.svg", SVG),
        (b"page.xhtml", XHTML),
        (b"data.xml", XHTML),
        (b"script.js", ATTACK.encode()),
        (b"notes.txt", HTML),
        (b"no-ending", HTML),
        (b"photo.png", HTML),
        (b"photo.gif", b"GIF89a/*" + HTML + b"*/=1;" + ATTACK.encode()),
        (b"archive.mhtml", b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" + HTML),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) and len(value) < 20 else "",
)
def test_a_hostile_artifact_has_no_rights_here(
    served: Served, visitor: BrowserContext, name: bytes, content: bytes
) -> None:
    """Opened by who is logged in: it runs nothing, asks for nothing, and can read or leave nothing."""
    _, [experiment] = make_run(served.context, f"evil-{new_ulid()}", ["completed"])
    artifact = keep(served.context, experiment, name, content)
    page = visitor.new_page()
    page.goto(f"{served.url}/runs/{experiment.run}")
    asked: list[str] = []
    visitor.on("request", lambda request: asked.append(request.url))
    opened = httpx.get(
        f"{served.url}/v1/artifacts/{artifact.artifact_id}/signed-url", headers={"x-api-key": served.key()}
    )
    for address in (f"/v1/artifacts/{artifact.artifact_id}/content", opened.json()["signed_url"]):
        url = address if address.startswith("http") else served.url + address
        try:
            page.goto(url)
        except Exception as error:
            assert "Download is starting" in str(error)  # it is not shown at all
            continue
        assert page.title() != "ran"
        assert page.evaluate("self.origin") in ("null", None) or not name.endswith(
            (b".html", b".htm", b".svg", b".xhtml", b".xml")
        )
    assert not [url for url in asked if "ran" in urlsplit(url).query]
    page.goto(f"{served.url}/runs/{experiment.run}")
    assert page.evaluate("[localStorage.ran, document.cookie]") == [None, ""]


@needs_chromium
def test_without_a_sandbox_the_same_would_run(served: Served, chromium: Browser) -> None:
    """What the test above looks for is there where nothing forbids it."""
    context = chromium.new_context()
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.route("**/free", lambda route: route.fulfill(body=HTML, content_type="text/html"))
    page = context.new_page()
    page.goto(f"{served.url}/free")
    assert page.title() == "ran"
    assert [url for url in asked if "ran" in urlsplit(url).query]
    assert page.evaluate("[localStorage.ran, document.cookie]") == ["1", "ran=1"]
    context.close()


@needs_chromium
def test_a_page_shows_what_happens_and_keeps_what_its_reader_did(
    served: Served, visitor: BrowserContext
) -> None:
    _, experiments = make_run(served.context, "alive", ["running"] * 3)
    runs, page = visitor.new_page(), visitor.new_page()
    runs.goto(f"{served.url}/?q=alive")
    page.goto(f"{served.url}/runs/alive")
    expect(runs.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.locator("input[name=e]").nth(1).check()
    page.locator("input[name=e]").nth(1).focus()
    make_run(served.context, "alive-too", ["running"])
    expect(runs.get_by_role("link", name="alive-too")).to_be_visible()
    finish(served.context, experiments[0], "failed", reason="exit code 3")
    expect(page.get_by_text("exit code 3").first).to_be_visible()
    assert page.locator("input[name=e]:checked").evaluate_all("boxes => boxes.map(box => box.value)") == ["1"]
    assert page.evaluate("document.activeElement.value") == "1"
    page.get_by_role("button", name="Artifacts").click()
    expect(page.get_by_role("heading", name="alive-exp1", level=1)).to_be_visible()
    expect(page.get_by_text("Nothing was written yet")).to_be_visible()
    keep(served.context, experiments[1], b"a/b/first.txt", b"1")
    keep(served.context, experiments[1], b"a/b/second.txt", b"2")
    expect(page.get_by_text("second.txt")).to_be_visible()
    served.context.catalog.begin_delete([one.experiment_id for one in experiments])
    expect(runs.get_by_role("link", name="alive", exact=True)).to_be_hidden()


@needs_chromium
def test_folders_open_in_place_and_go_on(served: Served, visitor: BrowserContext) -> None:
    _, [experiment] = make_run(served.context, "folded", ["completed"])
    many(served.context, experiment, [b"big/%04d" % i for i in range(700)] + [b"other/x"])
    page = visitor.new_page()
    page.goto(f"{served.url}/runs/folded/artifacts")
    page.get_by_text("big/").click()
    expect(page.get_by_text("0000", exact=True)).to_be_visible()
    expect(page.get_by_text("0699", exact=True)).to_have_count(0)
    for _ in range(4):
        if page.get_by_text("Show more").count() == 0:
            break
        last = page.locator(".leaf").count()
        page.get_by_text("Show more").click()
        expect(page.locator(".leaf").nth(last)).to_be_attached()
    assert page.locator(".leaf").count() == 700
    assert page.url.endswith("/runs/folded/artifacts")


@needs_chromium
def test_by_keyboard(served: Served, visitor: BrowserContext) -> None:
    _, [experiment, _] = make_run(served.context, "keyed", ["completed", "completed"])
    artifact = keep(served.context, experiment, b"file.txt", b"by keyboard")
    page = visitor.new_page()
    page.goto(served.url)
    page.keyboard.press("/")
    page.keyboard.type("keyed")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.keyboard.press("Tab")
    page.locator("body").click()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="keyed")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_text("1 experiment selected")).to_be_visible()
    page.keyboard.press("Enter")  # on the check box: sends the form
    page.wait_for_url("**/runs/keyed/artifacts?e=0")
    page.keyboard.press("j")
    page.keyboard.press("c")
    expect(page.get_by_text("Copied the link to keyed-exp0:file.txt")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert "/s/" in link
    assert httpx.get(link).content == b"by keyboard"
    with page.expect_download() as started:
        page.keyboard.press("d")
    assert started.value.path().read_bytes() == b"by keyboard"
    assert started.value.suggested_filename == "file.txt"
    assert artifact.path == b"file.txt"


@needs_chromium
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_at_every_width_and_in_both_themes(served: Served, visitor: BrowserContext, theme: Any) -> None:
    _, experiments = make_run(
        served.context,
        f"narrow-{theme}",
        [str(state) for state in State],
        params={"lr": 0.1, "name": "x" * 300},
    )
    keep(served.context, experiments[0], b"a/" + b"long-" * 40 + b".txt", b"1")
    page = visitor.new_page()
    page.emulate_media(color_scheme=theme)
    for path in ("/", f"/runs/narrow-{theme}", f"/runs/narrow-{theme}/artifacts?e=0", "/login"):
        page.goto(served.url + path)
        for width in (1280, 760, 360, 320):
            page.set_viewport_size({"width": width, "height": 700})
            assert wide(page) <= 0, (path, width)
        ground, text = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert (ground == "rgb(255, 255, 255)") == (theme == "light")
        assert text != ground
    page.set_viewport_size({"width": 1280, "height": 700})
    page.get_by_role("button", name="Switch between light and dark").click()
    page.reload()  # it is remembered
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (theme != "light")
