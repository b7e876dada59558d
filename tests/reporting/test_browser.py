"""The page in a real browser: it works by mouse and by keyboard, asks for nothing, and complains of nothing."""

import json

import numpy as np
import pytest


@pytest.fixture
def opened(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#slide-0[data-ready]"))
    return browser


@pytest.fixture
def find(opened):
    from selenium.webdriver.common.by import By

    return lambda selector: opened.find_elements(By.CSS_SELECTOR, f"#slide-0 {selector}")


def colours(browser, slide: int = 0) -> int:
    """Digest of what is drawn over the picture."""
    return browser.execute_script(
        "const c = document.querySelectorAll('canvas.spots')[arguments[0]];"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let s = 0; for (let i = 0; i < d.length; i += 1) s = (s * 31 + d[i]) % 2147483647; return s;",
        slide,
    )


def set_range(browser, element, value):
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
        element,
        value,
    )


def test_nothing_is_asked_of_a_network_and_nothing_complains(opened, page):
    requests = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in requests if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert [entry for entry in opened.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_the_slider_changes_the_count_and_a_button_takes_it_back(opened, find, fitted):
    own = fitted.obs[fitted.obs["library_id"] == "slide1"]
    scores, called = own["omib_score"].dropna(), int((own["omib_call"] == "abnormal").sum())
    (count,), (slider,) = find(".count"), find(".level")
    assert int(count.text) == called
    low, high = (float(slider.get_attribute(end)) for end in ("min", "max"))
    seen = set()
    for share in (0, 0.2, 0.5, 0.9, 1):
        set_range(opened, slider, low + share * (high - low))
        at = float(slider.get_attribute("value"))
        assert int(count.text) == (scores.round(3) > at).sum()
        seen.add(count.text)
        assert f"{count.text} spots called" in slider.get_attribute("aria-valuetext")
    assert {"0", str(len(scores))} < seen
    find(".as-scored")[0].click()
    assert int(count.text) == called and "level of the run" in find(".level-value")[0].text


def test_expected_shares_are_those_of_the_package(opened, find, fitted):
    from omib_spatial.stats.calls import false_share, missed_share

    slide = opened.execute_script("return JSON.parse(document.getElementById('data').textContent)[0]")
    known = np.array([value is not None for value in slide["posterior"]])
    posterior = np.array(slide["posterior"], float)[known]
    score = np.array(slide["layers"]["score"]["values"], float)[known]
    set_range(opened, find(".level")[0], -0.5)
    called = score > float(find(".level")[0].get_attribute("value"))

    def text(share):
        return "less than 1 %" if 0 < share < 0.005 else f"{int(100 * share + 0.5)} %"

    said = (
        f"{text(false_share(posterior, called))} of them false, {text(missed_share(posterior, called))} of the abnormal"
    )
    assert said in find(".expected")[0].text


def test_layers_switch_and_have_their_legends(opened, find):
    seen = set()
    for button in find("input[type=radio]"):
        opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        seen.add(colours(opened))
        legend = find(".legend")[0].text
        kinds = {"call": "abnormal (", "truth": "mucosa (", "score": "and more", "none": ""}
        assert kinds[button.get_attribute("value")] in legend
    assert len(seen) == 4
    before = colours(opened)
    find("[data-show=regions]")[0].click()
    assert colours(opened) != before
    assert find("[data-show=picture]")[0].is_enabled()


def test_the_call_layer_follows_the_level(opened, find):
    find("input[value=call]")[0].click()
    before = colours(opened), find(".legend")[0].text
    set_range(opened, find(".level")[0], float(find(".level")[0].get_attribute("min")))
    assert colours(opened) != before[0] and find(".legend")[0].text != before[1]
    assert f"abnormal ({find('.count')[0].text})" in find(".legend")[0].text


def test_the_keyboard_suffices(opened, find):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(element, *keys):
        opened.execute_script("arguments[0].focus()", element)
        ActionChains(opened).send_keys(*keys).perform()

    press(find("input[value=score]")[0], Keys.ARROW_RIGHT)
    assert find("input[value=call]")[0].is_selected()
    before = int(find(".count")[0].text)
    press(find(".level")[0], Keys.HOME)
    assert int(find(".count")[0].text) == 149 > before
    drawn = colours(opened)
    press(find("table.regions button")[0], Keys.ENTER)
    assert "chosen" in find("table.regions tbody tr")[0].get_attribute("class")
    wait_for(lambda: colours(opened) != drawn)
    canvas = find(".viewer .openseadragon-canvas")[0]
    assert canvas.get_attribute("tabindex") == "0"
    drawn = colours(opened)
    press(canvas, "+")
    wait_for(lambda: colours(opened) != drawn)


def wait_for(true):
    from time import monotonic, sleep

    end = monotonic() + 20
    while not true():
        assert monotonic() < end
        sleep(0.05)


def test_a_spot_tells_its_numbers_and_a_patch_leads_to_it(opened, find, fitted):
    patch = find("[data-spot]")[0]
    opened.execute_script("arguments[0].click()", patch)
    said = find(".spot")[0].text
    highest = fitted.obs.loc[fitted.obs["library_id"] == "slide1", "omib_score"].idxmax()
    assert highest in said and f"score {fitted.obs.loc[highest, 'omib_score']:.2f}" in said and "called" in said


def test_tabs_show_one_slide_each(opened):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    first, second = opened.find_elements(By.CSS_SELECTOR, ".slide")
    assert first.is_displayed() and not second.is_displayed()
    opened.find_element(By.ID, "tab-0").send_keys(Keys.ARROW_RIGHT)
    assert second.is_displayed() and not first.is_displayed()
    wait_for(lambda: second.get_attribute("data-ready"))
    assert "this slide has none" in second.text
    assert colours(opened, 1) != 0
    assert opened.get_log("browser") == []


def test_a_phone_s_width_holds_the_page(opened, find):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        opened.refresh()
        wait_for(lambda: find("")[0].get_attribute("data-ready"))
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
        viewer, panel = find(".viewer")[0].rect, find(".panel")[0].rect
        assert viewer["width"] > 340 and panel["y"] >= viewer["y"] + viewer["height"]
        # Fingers need room.
        assert all(button.size["height"] >= 38 for button in find("button"))
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
