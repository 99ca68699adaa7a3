"""Rules of the house: metrics and alerts, tasks, links, modules and their maps."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import (
    ALERTS_PAGE,
    ALL_PAGES,
    API,
    ARCHITECTURE,
    METRICS_PAGE,
    PACKAGES,
    PAGES,
    PROJECT,
    PYTHON,
    ROOT,
    has_line,
)

from tasks.celery_tasks import QUEUE
from tasks.ledger.schema import VERSION
from tasks.models import Account
from tasks.settings import load_settings

# ------------------------------------------------------------------------------------------------- metrics and alerts


def metric_names() -> set[str]:
    """Return every metric, as the page that Prometheus reads names it."""
    from tasks.ledger import OpenCounts, Overview
    from tasks.metrics_registry import Counters
    from tasks.send.rate_limit import CurrentRate
    from worker.metrics import Observation, families

    overview, open_work = Overview({}, {}, 1.0, 1.0, 1), OpenCounts({}, None)
    rate = CurrentRate(1, 1, 1)
    observed = Observation(Counters().read(), overview, 0, rate, {"ledger": True}, {"sweep": 1.0}, open_work)
    return {sample.name for family in families(observed) for sample in family.samples}


METRICS = metric_names()
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "onboard.json").read_text("utf-8"))
#: Names in expressions that are not ours: functions, words and labels of Prometheus's language.
NOT_OURS = {"absent", "by", "histogram_quantile", "le", "max", "min", "rate", "sum", "time", "up"}


def names_in(expression: str) -> set[str]:
    """Return the names that an expression uses outside of its selectors and durations."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)", " ", expression)
    return set(re.findall(r"\b[a-z_]+\b", bare)) - NOT_OURS


def test_every_metric_is_documented() -> None:
    section = METRICS_PAGE
    stems = {re.sub(r"_(?:bucket|count|sum|created)$", "", name) for name in METRICS}
    assert len(stems) > 12
    assert {name for name in stems if not has_line(section, name)} == set()
    named = set(re.findall(r"^\| `(onboard_\w+)` \|", section, re.MULTILINE))
    assert named == stems


def test_every_label_of_a_metric_is_documented() -> None:
    from tasks.metrics_registry import FINDINGS, OUTCOMES

    section = METRICS_PAGE
    assert {name for name in (*OUTCOMES.values(), *FINDINGS) if f"`{name}`" not in section} == set()


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_an_alert_asks_for_what_exists_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert names_in(rule["expr"]) <= METRICS
    assert names_in(rule["expr"]) or "up{" in rule["expr"]
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    assert has_line(ALERTS_PAGE, rule["alert"])


def test_no_alert_is_explained_that_does_not_exist() -> None:
    section = ALERTS_PAGE
    assert re.findall(r"^\| `(Onboard\w+)` \|", section, re.MULTILINE) == [rule["alert"] for rule in ALERTS]


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    asked = {name for panel in DASHBOARD["panels"] for target in panel["targets"] for name in names_in(target["expr"])}
    assert asked <= METRICS
    assert {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in METRICS} == {
        re.sub(r"_(?:bucket|count|sum)$", "", name) for name in asked
    }
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(places) == len(set(places))


# ----------------------------------------------------------------------------------------------------- queue and tasks


def test_queue_names_in_code_and_documents_agree() -> None:
    from worker.celery_app import make_app

    app = make_app("redis://localhost/0", Account(True, load_settings({"HOME": "/home/one"}).address), 40.0)
    assert app.conf.task_default_queue == QUEUE
    assert set(app.conf.task_queues) == {QUEUE}
    prefix = app.conf.broker_transport_options["global_keyprefix"]
    assert set(re.findall(r"llen (\S+?)`", ALL_PAGES)) == {f"{prefix}{QUEUE}"}


def test_every_task_has_a_name_of_its_own() -> None:
    """Else moving a file would orphan the messages that are under way."""
    decorated = [
        decorator
        for node in ast.walk(ast.parse((ROOT / "tasks" / "celery_tasks.py").read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if "shared_task" in ast.unparse(decorator)
    ]
    assert len(decorated) >= 2
    for decorator in decorated:
        assert isinstance(decorator, ast.Call)
        names = [keyword.value for keyword in decorator.keywords if keyword.arg == "name"]
        assert names
        assert isinstance(names[0], ast.Constant)
        assert str(names[0].value).startswith("onboard.")


# ------------------------------------------------------------------------------------------------- links and the house


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        path, _, anchor = link.partition("#")
        assert not re.match(r"\w+://", path), f"{page}: {link} leaves the repository"
        target = (ROOT / page).parent / path if path else ROOT / page
        name = str(target.resolve().relative_to(ROOT))
        assert target.exists(), f"{page}: there is no {link}"
        if anchor:
            assert anchor in anchors(PAGES[name]), f"{page}: {name} has no heading for #{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for link in re.findall(r"\]\(([^)\s#]+\.md)", PAGES.get(page, "")):
            target = str(((ROOT / page).parent / link).resolve().relative_to(ROOT))
            if target not in reached:
                waiting.append(target)
    assert {page for page in PAGES if page.startswith("docs/")} - reached == set()


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_path_that_a_page_names_exists(page: str) -> None:
    roots = (*PACKAGES, "docs", "tests", "benchmarks", "sample_data", "deploy", ".ci")
    for path in re.findall(rf"`?\b((?:{'|'.join(map(re.escape, roots))})/[\w./-]*\w/?)`", PAGES[page]):
        assert (ROOT / path).exists(), f"{page} names {path}"


def test_every_page_that_the_code_names_exists() -> None:
    named = {name for path in PYTHON for name in re.findall(r"docs/[\w/-]+\.md", path.read_text("utf-8"))}
    assert len(named) >= 3
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_section_of_the_api_that_is_cited_exists() -> None:
    sources = [*PYTHON, *ROOT.glob("tasks/**/*.toml")]
    cited = {number for path in sources for number in re.findall(r"§(\d+(?:\.\d+)?)", path.read_text("utf-8"))}
    cited |= {number for text in PAGES.values() for number in re.findall(r"API §(\d+(?:\.\d+)?)", text)}
    assert len(cited) > 15
    found = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)", API, re.MULTILINE)) | set(
        re.findall(r"^\d+\. §(8\.\d+)", API, re.MULTILINE)
    )
    assert cited - found == set()


def test_every_lua_script_is_loaded_by_the_code() -> None:
    scripts = [path for package in PACKAGES for path in (ROOT / package).rglob("*.lua")]
    assert scripts
    strings = {
        node.value
        for path in PYTHON
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {script.name for script in scripts if script.name not in strings} == set()


#: It is imported as `simulator.profile` and never by its bare name.
NAMED_LIKE_THE_LIBRARY = {"simulator/profile.py"}


def test_no_module_is_named_after_the_standard_library() -> None:
    same = {str(path.relative_to(ROOT)) for path in PYTHON if path.stem in sys.stdlib_module_names}
    assert same == NAMED_LIKE_THE_LIBRARY


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "shared", "base", "manager", "service"}
    names = [path.stem for path in PYTHON] + [path.stem for path in (ROOT / "tests").rglob("*.py")]
    assert [name for name in names if name in drawers] == []


@pytest.mark.parametrize(
    "package", [*PACKAGES, "tasks.reports", "tasks.accept", "worker.inboxes", "worker.watcher", "worker.console.pages"]
)
def test_the_map_of_a_package_lists_what_exists(package: str) -> None:
    module = importlib.import_module(package)
    folder = Path(str(module.__file__)).parent
    exists = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    listed = re.findall(r"^([a-z_]+)  +\S", str(module.__doc__).replace("::", ""), re.MULTILINE)
    assert listed
    assert set(listed) <= exists
    assert len(listed) == len(set(listed))
    if package in PACKAGES or package.startswith("worker."):
        assert exists - {"__init__", "__main__"} == set(listed)


def test_the_drawing_of_the_rooms_is_what_the_import_contracts_say() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    layers = {
        name for each in contracts if each["type"] == "layers" for line in each["layers"] for name in line.split(" | ")
    }
    drawing = ARCHITECTURE.partition("```\n")[2].partition("```")[0]
    assert len(layers) > 25
    assert {name for name in layers if not re.search(rf"\b{name}\b", drawing)} == set()


def test_the_changelog_knows_this_version() -> None:
    assert f"\n## {PROJECT['project']['version']}" in PAGES["CHANGELOG.md"]
    assert f"version {VERSION}" in PAGES["CHANGELOG.md"]


@pytest.mark.parametrize("name", [*sorted(PAGES), "docker-compose.yml", "Dockerfile", "Makefile", "pyproject.toml"])
def test_nothing_of_the_machine_it_was_written_on_stands_in_the_repository(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert (
        re.findall(
            r"(?<![\w.])/(?:work|tmp|root|home/(?!onboard)\w+)/\S*|pypi\.\w+|\b[\w.]+@[\w-]+\.(?:com|net|jp)\b", text
        )
        == []
    )
