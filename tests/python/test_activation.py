"""The activation page in a real browser: a partner opens its link, presses the button, and reads with what it got."""

import asyncio
import json

import browser
import delta_sharing
import pytest
import requests
import weir


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def quiet_server(request, tmp_path_factory):
    """A server of these tests' own, without tables."""
    database = request.getfixturevalue("new_database")() if request.param == "postgres" else None
    server = weir.Server(tmp_path_factory.mktemp("weir"), [], database)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def pending(server, credential):
    """Lets the partner have a link; its name holds what would be markup."""
    server.admin("PATCH", "/recipients/partner", {"display_name": 'Acme <b>Analytics</b> & "Sons"'})
    return server.admin("POST", "/recipients/partner/tokens", {"credential": credential, "expires_in_seconds": 3600})


def test_a_partner_downloads_a_profile_that_works(quiet_server, tmp_path):
    if not browser.program():
        pytest.skip("no Chromium: tests/setup/install installs it")
    asyncio.run(download(quiet_server, pending(quiet_server, "browser")["activation_url"], tmp_path / "browser"))


async def download(server, url, directory):
    async with browser.Browser(directory) as page:
        await page.open(url)
        await page.open(url)
        shown = await page.html()
        assert "<h1>127.0.0.1 shares data with you</h1>" in shown
        assert "Acme &lt;b&gt;Analytics&lt;/b&gt; &amp;" in shown
        await page.screenshot(directory / "offer.png")
        await page.click("button")
        await browser.until(lambda: page.finished, "download")
        file = page.downloads / "partner.share"
        profile = json.loads(file.read_text())
        assert profile["shareCredentialsVersion"] == 1
        assert [share.name for share in delta_sharing.SharingClient(str(file)).list_shares()] == ["lake"]

        loaded = page.loaded
        await page.click("button")
        await browser.until(lambda: page.loaded > loaded, "second page")
        assert "<h1>This link has been used</h1>" in await page.html()
        await page.screenshot(directory / "used.png")
        # The browser tells of the refusal; it must have nothing to say about styles, frames or forms.
        assert [entry for entry in page.complaints if entry["source"] != "network"] == []
    assert len(list(page.downloads.iterdir())) == 1
    assert url.rsplit("/", 1)[-1] not in server.log()
    assert profile["bearerToken"] not in server.log()


def test_a_link_hands_out_one_profile_to_a_program_too(quiet_server):
    issued = pending(quiet_server, "program")
    for _ in range(3):
        assert requests.get(issued["activation_url"], timeout=10).status_code == 200
    first = requests.post(issued["activation_url"], timeout=10)
    assert (first.status_code, first.json()["shareCredentialsVersion"]) == (200, 1)
    second = requests.post(issued["activation_url"], timeout=10)
    assert (second.status_code, second.json()["errorCode"]) == (410, "ACTIVATION_USED")
