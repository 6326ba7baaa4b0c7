"""The stand-in for Grafana, against a real Prometheus that has our rules and nothing to scrape."""

from __future__ import annotations

import asyncio
import html
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from notifier.embedded.ports import free_port
from tests.monitoring import promtool, reading
from tests.running import eventually

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a Prometheus of our own, on loopback."""
    config = tmp_path / "prometheus.yml"
    config.write_text(f"rule_files: [{reading.PROMETHEUS / 'rules.yml'}]\n")
    url = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        str(Path(promtool.promtool()).with_name("prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address={url}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as http:

            async def is_ready() -> bool:
                assert process.returncode is None, "Prometheus ended"
                try:
                    async with http.get(f"http://{url}/-/ready") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(is_ready, within=60, what="Prometheus")
        yield f"http://{url}"
    finally:
        process.terminate()
        await process.wait()


async def test_prometheus_answers_every_panel_and_each_is_drawn(prometheus: str, tmp_path: Path) -> None:
    script = reading.ROOT / "monitoring" / "grafana" / "draw.py"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), "--prometheus", prometheus, "--out", str(tmp_path)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    for name, dashboard in reading.dashboards().items():
        drawn = (tmp_path / f"{name}.html").read_text()
        titles = [html.unescape(title) for title in re.findall("<h2>([^<]+)</h2>", drawn)]
        assert titles == [panel["title"] for panel in dashboard["panels"] if panel["type"] != "row"]
