"""Makes the README's pictures: `python -m tests.support.make_screenshots runs/run-001 GOALPOST docs/images`.

They are of a real run, at the size at which they are shown; look at them before they are committed.
"""

import sys
from contextlib import closing
from pathlib import Path

from tests.support.browser import chromium, find_chromium, viewer_server, wait_for_index


def main(run: Path, goalpost: str, folder: Path) -> None:
    browser = find_chromium()
    assert browser, "there is no Chromium; .ci/chromium installs it"
    with viewer_server(run) as address, chromium(browser) as chrome:
        wait_for_index(address, run.name)
        with closing(chrome.new_page()) as page:
            for name, place, height in ("run", "", 830), ("goalpost", f"/goalposts/{goalpost}", 1000):
                page.set_viewport_size({"width": 1280, "height": height})
                page.goto(f"{address}/runs/{run.name}{place}")
                page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
