"""The pages in a real Chromium. What files are called and what is in them is hostile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, expect, sync_playwright

from gridkeep.model import State, new_ulid
from gridkeep.runs.shares import Place, make_share
from tests.api.browsing import many
from tests.api.serving import Served
from tests.unit.made import finish, keep, make_run

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update")
pytestmark = [
    pytest.mark.xdist_group("pages in Chromium"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]

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
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
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
        icon = message.location["url"].endswith("/favicon.ico")  # which a PDF cannot name
        if message.type == "error" and not refused and not icon:
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
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS("
    b"this.submitForm('/?ran');app.launchURL('/?ran'))>>>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n" + HTML
)


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
        (b"paper.pdf", PDF),
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
    shared = Place(make_run(served.context, f"shared-{theme}-{'x' * 40}", ["completed"])[0])
    make_share(served.context.catalog, shared, by="a-long-name-" * 5, ttl=60)
    pages = ("/", f"/runs/narrow-{theme}", f"/runs/narrow-{theme}/artifacts?e=0", "/shares", "/login")
    for path in pages:
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
