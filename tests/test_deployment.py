"""Laws for image and compose file: what they name exists, and nothing has more rights than it needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import (
    COMMANDS,
    COMPOSE,
    DOCKERFILE,
    ENV_FILE,
    LONGEST_END_SECONDS,
    OURS,
    PROJECT,
    SERVICES,
    UNITS,
    check_command,
    filled_in,
    in_image,
    seconds,
    settings_of,
)
from documents import PAGES
from factories import ROOT

from tasks.celery_tasks import QUEUE
from tasks.setting_sources import FILE_SUFFIX
from tasks.settings import SIMULATOR_HOST, Settings, setting_names

# ---------------------------------------------------------------------------------------------------------- the image


def test_the_image_is_built_from_what_exists() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    extras = re.search(r"/src\[([a-z,]+)\]", DOCKERFILE)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    assert "postgres" in extras[1]
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"COPY {package} /src/{package}" in DOCKERFILE


def test_the_image_is_not_root_and_brings_no_tools() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", last, re.MULTILINE) == ["onboard"]
    assert "--uid 10001" in last
    assert [line for line in last.splitlines() if re.search(r"\b(?:pip|apt-get|curl|wget)\b", line)] == []


def test_the_image_starts_a_command_that_exists() -> None:
    entry = re.search(r'^ENTRYPOINT \["(\w+)"\]', DOCKERFILE, re.MULTILINE)
    default = re.search(r'^CMD \["(\w+)"\]', DOCKERFILE, re.MULTILINE)
    assert entry is not None
    assert default is not None
    assert entry[1] in PROJECT["project"]["scripts"]
    assert default[1] in COMMANDS


def test_the_settings_of_the_image_exist_and_its_health_is_asked_where_it_is_told() -> None:
    ours = {name: value for name, value in in_image().items() if name.startswith("ONBOARD_")}
    assert set(ours) <= set(setting_names())
    settings = settings_of(ours)
    health = re.search(r"^HEALTHCHECK [^\n]*\\\n +CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    assert health is not None
    assert f"http://127.0.0.1:{settings.metrics_port}/healthz" in health[1]
    for folder in (settings.home, settings.drop_folder):
        assert re.search(rf"^ && install .*--owner onboard .*{folder}\b", DOCKERFILE, re.MULTILINE)


def test_every_image_has_a_tag() -> None:
    images = [*re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)]
    images += [service["image"] for service in SERVICES.values() if service not in OURS.values()]
    assert len(images) == 4
    assert [image for image in images if not re.fullmatch(r"[a-z]+:(?!latest)[\w.-]+", image)] == []


# --------------------------------------------------------------------------------------------------- the compose file


def test_the_services_are_those_that_the_page_tells_of() -> None:
    page = (ROOT / "docs" / "run" / "containers.md").read_text("utf-8")
    assert set(
        re.findall(r"^\| `(\w+)` \|", page.partition("## What runs")[2].partition("\n## ")[0], re.MULTILINE)
    ) == set(SERVICES)
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"simulator", "sample", "console"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_of_ours_runs_a_command_with_settings_that_exist(name: str) -> None:
    service = OURS[name]
    if "entrypoint" not in service:
        check_command(service["command"])
    known = {*setting_names(), *(each + FILE_SUFFIX for each in setting_names())}
    assert set(service.get("environment", {})) <= known


@pytest.mark.parametrize("name", ["worker", "watcher", "beat", "console"])
def test_the_settings_of_the_compose_file_can_be_read(name: str) -> None:
    given = {key: filled_in(value) for key, value in OURS[name]["environment"].items()}
    plain = {key: value for key, value in {**in_image(), **given}.items() if key in setting_names()}
    settings = settings_of(plain)
    assert settings.redis_url == "redis://broker:6379/0"
    assert settings.requests_per_second == Settings.model_fields["requests_per_second"].default


def test_worker_watcher_and_console_agree_on_everything() -> None:
    assert OURS["worker"]["environment"] == OURS["watcher"]["environment"]
    of_console = OURS["console"]["environment"]
    assert OURS["worker"]["environment"].items() <= of_console.items()
    assert {name for name in of_console if name not in OURS["worker"]["environment"]} == {
        name for name in of_console if name.startswith("ONBOARD_CONSOLE_")
    }


def test_the_demo_has_a_name_of_its_own_wherever_it_is_started_and_removed() -> None:
    """Or its `down --volumes` would remove the ledger of the real thing, which has the folder's name."""
    pages = [*PAGES.values(), (ROOT / "docker-compose.yml").read_text("utf-8")]
    typed = [line for page in pages for line in re.findall(r"docker compose [^`\n]*", page)]
    dangerous = [line for line in typed if "--profile demo" in line or re.search(r"down\b.*(--volumes|-v\b)", line)]
    assert len(dangerous) >= 4
    assert [line for line in dangerous if "--project-name onboard-demo" not in line] == []
    assert "name" not in COMPOSE, "a name in the file would be the demo's, too"
    assert [name for name, volume in COMPOSE["volumes"].items() if volume] == [], "a volume's own name is in no project"


def test_beat_sends_to_the_queue_that_the_workers_read() -> None:
    for name in ("REDIS_URL", "ELEPAY_MODE", "ELEPAY_BASE_URL"):
        assert OURS["beat"]["environment"][name] == OURS["worker"]["environment"][name]


def test_accepted_files_are_shared_and_every_volume_is_declared() -> None:
    home = f"home:{in_image()['ONBOARD_HOME']}"
    for name in ("worker", "watcher", "beat"):
        assert home in OURS[name]["volumes"]
    for name in ("watcher", "sample"):
        assert any(each.endswith(f"}}:{in_image()['ONBOARD_DROP_FOLDER']}") for each in OURS[name]["volumes"])
    used = {filled_in(each).partition(":")[0] for service in SERVICES.values() for each in service.get("volumes", [])}
    assert {each for each in used if not each.startswith("./")} == set(COMPOSE["volumes"])


def test_until_told_otherwise_the_simulator_is_asked_and_not_elepay() -> None:
    address = filled_in(OURS["worker"]["environment"]["ELEPAY_BASE_URL"])
    command = OURS["simulator"]["command"]
    assert address == f"http://{SIMULATOR_HOST}:{command[command.index('--port') + 1]}"
    assert SIMULATOR_HOST in OURS
    assert set(OURS["worker"]["networks"]) & set(OURS["simulator"]["networks"])


def test_the_sample_exists_and_is_dropped_into_the_inbox() -> None:
    _, source, target = OURS["sample"]["entrypoint"]
    assert "./sample_data:/sample_data:ro" in OURS["sample"]["volumes"]
    assert (ROOT / source.removeprefix("/")).is_file()
    assert target == f"{in_image()['ONBOARD_DROP_FOLDER']}/inbox/"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_has_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert name == "ledger" or ("cap_add" not in service and re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]))
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] <= 512
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"sample"}))
def test_every_service_is_started_again_and_its_health_is_known(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    healthcheck = service.get("healthcheck")
    if name in ("worker", "watcher"):
        assert healthcheck is None  # the image's, through /healthz
    else:
        assert healthcheck["test"][0] in ("CMD", "CMD-SHELL")


def test_the_clock_is_looked_for_where_it_writes() -> None:
    """That it is written there: tests/resilience/test_afterwards.py."""
    assert f"{in_image()['ONBOARD_HOME']}/beat-schedule.written " in OURS["beat"]["healthcheck"]["test"][1]


@pytest.mark.parametrize("name", ["worker", "watcher"])
def test_what_is_under_way_has_time_to_end(name: str) -> None:
    assert seconds(OURS[name]["stop_grace_period"]) > LONGEST_END_SECONDS
    for server, condition in OURS[name]["depends_on"].items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[server]


def test_ledger_and_broker_are_reached_from_inside_only() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("ledger", "broker"):
        assert SERVICES[name]["networks"] == ["inside"]
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_secrets_are_files_that_one_command_makes() -> None:
    named = {each for service in SERVICES.values() for each in service.get("secrets", [])}
    assert named == set(COMPOSE["secrets"])
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\nsecrets:")[2].partition("\n\n")[0]
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert f"[ -e {name} ]" in recipe
    for service in SERVICES.values():
        files = {value for key, value in service.get("environment", {}).items() if key.endswith(FILE_SUFFIX)}
        assert files == {f"/run/secrets/{name}" for name in service.get("secrets", [])}
    assert "/secrets/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_made_secrets_fit_the_compose_file_and_are_kept(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for _ in range(2):
        subprocess.run(["make", "secrets"], cwd=tmp_path, check=True, timeout=20, capture_output=True)
        made = {path.name: path.read_text("utf-8").strip() for path in (tmp_path / "secrets").iterdir()}
        assert set(made) == set(COMPOSE["secrets"])
        (tmp_path / "secrets" / "elepay_secret_key").write_text("sk_test_mine", "utf-8")
    assert made["elepay_secret_key"] == "sk_test_mine"
    assert re.fullmatch(r"[0-9a-f]{48}", made["ledger_password"])
    postgres = SERVICES["ledger"]["environment"]
    assert made["ledger_url"] == (
        f"postgresql+psycopg://{postgres['POSTGRES_USER']}:{made['ledger_password']}@ledger:5432/{postgres['POSTGRES_DB']}"
    )
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o644}


def secrets_in(text: str) -> list[str]:
    return re.findall(r"\b[sp]k_(?:test|live)_\w+|://[^\s/@]+:[^\s/@]+@\S+|(?i:password|secret_key)[=:] *\w+", text)


@pytest.mark.parametrize(
    "path", [ROOT / "Dockerfile", ROOT / "docker-compose.yml", ENV_FILE, *UNITS], ids=lambda path: path.name
)
def test_no_secret_stands_inline(path: Path) -> None:
    text = re.sub(r"ledger_password: \{file|_SECRET_KEY:/etc/\S+", "", path.read_text("utf-8"))
    assert secrets_in(text) == []


def test_the_broker_of_the_fleet_never_drops_a_key_and_keeps_its_messages() -> None:
    command = SERVICES["broker"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_no_worker_is_told_of_another_queue() -> None:
    lines = [" ".join(service.get("command", [])) for service in SERVICES.values()]
    lines += [path.read_text("utf-8") for path in UNITS]
    assert {queue for line in lines for queue in re.findall(r"(?:-Q|--queues)[= ](\S+)", line)} <= {QUEUE}
