"""Loading applications as the original does: names, paths, environments, mount points."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from serving import Instance, release

FACTS = """
import json, sys, os
def answer(environ, start_response):
    start_response("200 OK", [])
    facts = {"name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path, "prefix": sys.prefix,
             "mount": environ.get("SCRIPT_NAME")}
    return [json.dumps(facts).encode()]
application = answer
def create():
    return answer
class Site:
    app = staticmethod(answer)
not_callable = 3
"""


@pytest.fixture
def instance(tmp_path: Path):
    made = Instance(tmp_path)
    (tmp_path / "site_one.py").write_text(FACTS)
    yield made
    made.clean()


def facts(instance: Instance, path: str = "/") -> dict:
    return json.loads(instance.answer(path))


def test_a_file_is_a_module_with_the_original_s_name_and_arguments(instance):
    instance.start(apps=[["wsgi-file", "site_one.py"]], pyargv="a b", pythonpath=["/one", "/two"])
    found = facts(instance)
    assert found["name"] == "uwsgi_file_site_one"
    assert found["file"] == "site_one.py"
    assert found["argv"] == ["uwsgi", "a", "b"]
    assert found["path"][:3] == ["/two", "/one", "."]


@pytest.mark.parametrize(
    "target", ["site_one", "site_one:answer", "site_one:create()", "site_one:Site.app"]
)
def test_modules_with_callables_and_factories(instance, target):
    instance.start(apps=[["module", target]])
    assert facts(instance)["name"] == "site_one"


def test_the_callable_option_names_the_default(instance):
    instance.start(apps=[["wsgi-file", "site_one.py"]], callable="answer")
    facts(instance)


@pytest.mark.parametrize("target", ["site_one:missing", "site_one:not_callable", "no_such_module"])
def test_with_need_app_what_cannot_be_called_ends_with_22(instance, target):
    instance.start(apps=[["module", target]], need_app=True)
    assert instance.wait() == 22
    assert f"cannot load the application {target}" in instance.text()


def test_mount_points_have_their_own_applications(instance, tmp_path):
    (tmp_path / "site_two.py").write_text(FACTS)
    instance.start(
        apps=[["mount", "site_one.py", "/one"], ["mount", "site_two:answer", "/two"]],
        manage_script_name=True,
    )
    assert facts(instance, "/one/x")["name"] == "uwsgi_file_site_one"
    assert facts(instance, "/two/x")["name"] == "site_two"


def test_applications_that_the_code_declares_are_served(instance, tmp_path):
    (tmp_path / "declares.py").write_text(
        "import uwsgi, site_one\nuwsgi.applications = {'': site_one.answer, '/x': 'site_one:answer'}\n"
    )
    instance.start(apps=[], python_import=["declares"])
    assert facts(instance)["name"] == "site_one"


def test_a_traceback_begins_with_the_customer_s_line(instance):
    instance.app.write_text("1 / 0\n")
    instance.start(need_app=True)
    assert instance.wait() == 22
    trace = instance.text().partition("Traceback")[2]
    assert "ZeroDivisionError" in trace
    assert "loader.py" not in trace


def test_a_virtual_environment_takes_the_place_of_the_supervisors_packages(instance, tmp_path):
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / version / "site-packages"
    (packages / "yaml.py").write_text("MARK = 'customer'\n")
    instance.app.write_text(
        "import yaml, json, sys\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [json.dumps([yaml.MARK, sys.prefix, sys.path]).encode()]\n"
    )
    instance.start(virtualenv=str(home))
    mark, prefix, path = json.loads(instance.answer())
    assert mark == "customer"
    assert prefix == str(home)
    assert str(packages) in path
    assert not [entry for entry in path if "site-packages" in entry and entry != str(packages)]


def test_a_virtual_environment_of_another_version_is_named(instance, tmp_path):
    instance.start(virtualenv=str(tmp_path), need_app=True)
    assert instance.wait() == 22
    assert "cannot use the virtual environment" in instance.text()
    assert "make it with that version" in instance.text()


def test_the_uwsgi_module_knows_options_and_processes(instance, tmp_path):
    (tmp_path / "asks.py").write_text(
        "import json, os, uwsgi\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    opt = {k: repr(v) for k, v in uwsgi.opt.items()}\n"
        "    return [json.dumps([opt, uwsgi.worker_id(), uwsgi.masterpid(), os.getppid(), uwsgi.numproc,\n"
        "            repr(uwsgi.version), len(uwsgi.workers())]).encode()]\n"
    )
    options = [["master", "true"], ["die-on-term", ""], ["env", "A=1"], ["env", "B=2"]]
    instance.start(apps=[["module", "asks"]], options=options, processes=2)
    opt, worker, master, parent, count, version, workers = json.loads(instance.answer())
    assert opt == {"master": "b'true'", "die-on-term": "True", "env": "b'B=2'"}
    assert worker in {1, 2}
    assert master == parent == instance.pid
    assert (count, workers) == (2, 2)
    assert version.startswith("b'2.0.31")


def test_threads_answer_at_the_same_time(instance, tmp_path):
    held = tmp_path / "held"
    instance.start(threads=4, enable_threads=True)
    instance.answer()
    with socket.create_connection(("127.0.0.1", instance.port), 5) as sock:
        sock.sendall(f"GET /hold/{held} HTTP/1.0\r\n\r\n".encode())
        while not held.exists():
            pass
        instance.get()
        release(held)
        assert b" 200 " in sock.recv(4096)
