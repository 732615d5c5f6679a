"""The page for chatting, in a real browser without a screen."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip(
            "chromium and chromedriver are not installed (apt-get install chromium chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.set_window_size(1200, 800)
    yield found
    found.quit()


class Page:
    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get(address)
        self.wait(lambda: self.one("#name").text == "tiny")
        self.set("max_tokens", "12")

    def one(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [each.text for each in self.browser.find_elements(By.CSS_SELECTOR, selector)]

    def wait(self, done: Any) -> None:
        WebDriverWait(self.browser, 60, poll_frequency=0.05).until(lambda _: done())

    def set(self, name: str, value: str) -> None:
        self.browser.execute_script(f"document.getElementById('{name}').value = arguments[0]", value)

    def say(self, text: str) -> None:
        answers = len(self.texts(".answers"))
        self.one("#text").send_keys(text, Keys.ENTER)
        self.wait(lambda: len(self.texts(".answers")) > answers)
        self.ready()

    def ready(self) -> None:
        self.wait(lambda: not self.texts(".waiting") and self.one("#send").text == "Send")

    def overflow(self) -> int:
        return int(
            self.browser.execute_script(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


@pytest.fixture
def page(browser: Any, address: str) -> Page:
    return Page(browser, address)


def test_base_and_tuned_answer_side_by_side_as_the_api_does(page: Page, client: Any) -> None:
    page.one("#compare").click()
    page.say("Say number 3")
    assert page.texts(".side h2") == ["base", "tuned"]
    expected = []
    for model in ("tiny:base", "tiny"):
        turns: list[Any] = [{"role": "user", "content": "Say number 3"}]
        done = client.chat.completions.create(model=model, messages=turns, max_tokens=12, temperature=0)
        expected.append(done.choices[0].message.content)
    shown = page.browser.execute_script(
        "return [...document.querySelectorAll('.answer')].map((each) => each.textContent)"
    )
    assert shown == expected
    left, right = page.browser.find_elements(By.CSS_SELECTOR, ".side")
    assert left.rect["y"] == right.rect["y"]
    assert all("tokens in" in each for each in page.texts(".figures"))


def test_the_keyboard_is_enough(page: Page) -> None:
    assert page.browser.switch_to.active_element.get_attribute("id") == "text"
    box = page.one("#text")
    box.send_keys("one", Keys.SHIFT + Keys.ENTER + Keys.NULL)
    box.send_keys("two")
    assert box.get_attribute("value") == "one\ntwo"
    page.set("max_tokens", "400")
    page.set("temperature", "9")
    box.send_keys(Keys.ENTER)
    page.wait(lambda: page.one("#send").text == "Stop" and page.texts(".answer") not in ([], [""]))
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.ready()
    assert page.texts(".figures") == ["interrupted"]
    assert page.browser.switch_to.active_element.get_attribute("id") == "text"
    page.set("max_tokens", "2")
    page.say("three")
    assert page.texts(".message") == ["one\ntwo", "three"]
    before = page.texts(".answer")
    page.one("#regenerate").send_keys(Keys.ENTER)
    page.wait(lambda: page.texts(".answer")[1:] not in (before[1:], [""]))
    page.ready()
    assert page.texts(".message") == ["one\ntwo", "three"]
    page.one("#reset").send_keys(Keys.ENTER)
    assert page.texts(".message") == []


def test_what_is_written_is_text_and_never_markup(page: Page) -> None:
    """The server's answer is replaced by one that would do harm, were it markup."""
    bad = "<img src=x onerror='document.title=1'><script>document.title=2</script>&amp; <b>bold</b>"
    page.browser.execute_script(
        """
        const said = arguments[0], real = window.fetch;
        window.fetch = async (where, options) => {
          if (!String(where).endsWith('/chat/completions')) return real(where, options);
          const event = { choices: [{ delta: { content: said }, finish_reason: 'stop' }] };
          return new Response(`data: ${JSON.stringify(event)}\\n\\ndata: [DONE]\\n\\n`);
        };
        """,
        bad,
    )
    page.say(bad)
    assert page.one(".answer").text == page.one(".message").text == bad
    assert page.texts(".answers *:not(section, p), .message *") == []
    assert page.browser.title == "tiny · xft"


def test_an_error_of_the_server_is_said(page: Page) -> None:
    page.set("max_tokens", "401")
    page.say("Hi")
    assert page.one("#error").text == "max_tokens: got 401; expected at most 400"
    page.set("max_tokens", "2")
    page.say("Hi again")
    assert not page.one("#error").is_displayed()


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_can_be_read_in_the_dark(page: Page, dark: bool) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        page.one("#compare").click()
        page.say("word " * 30 + "x" * 300)
        left, right = page.browser.find_elements(By.CSS_SELECTOR, ".side")
        assert left.rect["x"] == right.rect["x"]
        assert right.rect["y"] > left.rect["y"]
        assert page.overflow() == 0
        for name in ("send", "regenerate", "save", "reset"):
            assert page.one(f"#{name}").rect["height"] >= 36
        contrast = page.browser.execute_script(
            CONTRAST, [".message", ".answer", ".figures", "h2", "#reset"]
        )
        assert min(contrast) >= 4.5
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


CONTRAST = """
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((each) => {
    const share = each / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
};
return arguments[0].map((selector) => {
  const node = document.querySelector(selector);
  const both = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
  return (both[0] + 0.05) / (both[1] + 0.05);
});
"""
"""The contrast of WCAG 2.2 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio)."""


def test_nothing_comes_from_elsewhere_and_no_script_of_others_runs(address: str) -> None:
    import httpx

    from xft.utils import paths

    for name in ("chat_page.html", "chat_page.css", "chat_page.js"):
        text = paths.asset(name).read_text(encoding="utf-8")
        assert "http:" not in text
        assert "https:" not in text
    assert "innerHTML" not in paths.asset("chat_page.js").read_text(encoding="utf-8")
    policy = httpx.get(address).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
