"""launch/'s JobSet, Dockerfile and notebook.

The JobSet: what JobSet hands on to Kubernetes, its job template with the pod template in it, is checked
against the types that lightkube-models generates from Kubernetes 1.37's OpenAPI description, strictly:
no unknown field, no required one missing, every type right. JobSet's own fields around it are checked
against a JSON schema of ours, written from its documented API, v1alpha2. Neither knows what GKE allows.

The Dockerfile: there need be no Docker; its RUN steps are run in a copy of the tree. The notebook: run
whole, in a kernel of its own, from a clone.
"""

import copy
import dataclasses
import math
import os
import re
import shutil
import subprocess
import sys
import types
import typing
from pathlib import Path

import jsonschema
import nbclient
import nbformat
import pytest
import yaml
from conftest import ROOT, load

from ddpm_jax.cli import flag_table

# The types are for a client, which is not needed: what they take from it are dataclasses.
schema = types.ModuleType("lightkube.core.schema")
schema.DictMixin, schema.field, schema.dataclass = object, dataclasses.field, dataclasses.dataclass
sys.modules |= {"lightkube.core": types.ModuleType("core"), schema.__name__: schema}

from lightkube.models import batch_v1  # noqa: E402

pytestmark = pytest.mark.slow  # for the libraries that only these tests need
LAUNCH = ROOT / "launch"
TEXT = {"type": "string"}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
NUMBER = {"type": "integer", "minimum": 0}
TRUTH = {"type": "boolean"}


def fields(required=(), **properties):
    """An object of these fields and no others."""
    closed = {"type": "object", "additionalProperties": False}
    return closed | {"properties": properties, "required": list(required)}


def several(items):
    return {"type": "array", "items": items}


JOBSET = fields(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=fields(
        ("name",),
        name=NAME,
        namespace=NAME,
        labels={"type": "object", "additionalProperties": TEXT},
        annotations={"type": "object", "additionalProperties": TEXT},
    ),
    spec=fields(
        ("replicatedJobs",),
        suspend=TRUTH,
        ttlSecondsAfterFinished=NUMBER,
        network=fields(enableDNSHostnames=TRUTH, publishNotReadyAddresses=TRUTH, subdomain=NAME),
        failurePolicy=fields(
            maxRestarts=NUMBER,
            restartStrategy={"enum": ["Recreate", "BlockingRecreate", "InPlaceRestart"]},
            rules=several(
                fields(
                    ("name", "action"),
                    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                    action={
                        "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
                    },
                    onJobFailureReasons=several(
                        {"enum": ["BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"]}
                    ),
                    targetReplicatedJobs=several(NAME),
                )
            ),
        ),
        replicatedJobs=several(
            fields(("name", "template"), name=NAME, replicas=NUMBER, template={"type": "object"})
        ),
    ),
)


def misfits(kind, value, where=""):
    """What of a value does not fit a type of lightkube's, each by its path."""
    if typing.get_origin(kind) is typing.Union:  # Optional
        kind = typing.get_args(kind)[0]
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            return [f"{where} is no object"]
        hints, known = typing.get_type_hints(kind), {}
        for field in dataclasses.fields(kind):
            known[field.metadata.get("json", field.name)] = field
        found = [f"{where}.{name} is unknown" for name in value.keys() - known.keys()]
        for name, field in known.items():
            if name in value:
                found += misfits(hints[field.name], value[name], f"{where}.{name}")
            elif field.default is field.default_factory is dataclasses.MISSING:
                found.append(f"{where}.{name} is missing")
        return found
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            return [f"{where} is no list"]
        (kind,) = typing.get_args(kind)
        return [m for i, each in enumerate(value) for m in misfits(kind, each, f"{where}[{i}]")]
    plain = typing.get_origin(kind) or kind
    fits = isinstance(value, plain) and (plain is bool or not isinstance(value, bool))
    return [] if fits else [f"{where} is {value!r}"]


@pytest.fixture
def jobset():
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


def parts(jobset):
    """The job template, and in it the job's and the pod's specifications and the one container."""
    (job,) = jobset["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return job["template"], job["template"]["spec"], pod, container


def test_the_jobset_is_one_by_the_types_of_kubernetes_and_the_fields_of_jobset(jobset):
    jsonschema.Draft202012Validator(JOBSET).validate(jobset)
    assert misfits(batch_v1.JobTemplateSpec, parts(jobset)[0]) == []


def test_the_checks_of_the_jobset_find_what_is_wrong(jobset):
    for change, words in [
        (lambda job, pod, box: job.update(completion=4), ".spec.completion is unknown"),
        (lambda job, pod, box: job.update(parallelism="4"), ".spec.parallelism is '4'"),
        (lambda job, pod, box: job.pop("template"), ".spec.template is missing"),
        (lambda job, pod, box: pod.update(nodeSelector=[]), "nodeSelector is []"),
        (lambda job, pod, box: box.update(args="--help"), "args is no list"),
        (lambda job, pod, box: box["ports"][0].pop("containerPort"), "containerPort is missing"),
        (lambda job, pod, box: job.update(suspend="no"), ".spec.suspend is 'no'"),
    ]:
        template, *inner = parts(copy.deepcopy(jobset))
        change(*inner)
        assert any(words in m for m in misfits(batch_v1.JobTemplateSpec, template)), words
    for path, value in [("failurePolicy", {"maxRestart": 3}), ("network", {"subdomain": "A b"})]:
        wrong = copy.deepcopy(jobset)
        wrong["spec"][path] = value
        assert not jsonschema.Draft202012Validator(JOBSET).is_valid(wrong)


def test_the_jobset_has_a_pod_for_every_host_and_a_chip_for_every_share_of_the_batch(jobset):
    _, job, pod, container = parts(jobset)
    chips = math.prod(map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    hosts = chips // container["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == hosts and hosts > 1
    assert load("cifar10").train.batch_size % chips == 0


def test_the_jobset_restarts_whatever_is_not_done_but_not_wrong_usage(jobset):
    _, job, pod, container = parts(jobset)
    assert job["completionMode"] == "Indexed"  # without it pods have no stable names
    assert job["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (rule,) = job["podFailurePolicy"]["rules"]
    exits = {"containerName": container["name"], "operator": "In", "values": [2]}
    assert rule == {"action": "FailJob", "onExitCodes": exits}
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "FailJobSet" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    flags = dict(flag.removeprefix("--").split("=") for flag in container["args"])
    assert flags["stopped_status"] == "75" and flags["workdir"].startswith("gs://")
    assert (
        flags.keys() <= {flag.name for flag in flag_table.TABLE} | {"config"}
        and (ROOT / flags["config"]).is_file()
    )


def test_the_guide_fills_in_the_jobset():
    (command,) = re.findall(r"^(sed .*) \| kubectl apply", (LAUNCH / "gke.md").read_text(), re.M)
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    container = parts(yaml.safe_load(done.stdout))[3]
    assert (
        container["image"] == "image:tag" and "--workdir=gs://bucket/cifar10" in container["args"]
    )
    assert not re.search("IMAGE|BUCKET", done.stdout)


def instructions():
    """(name, argument) of every instruction of the Dockerfile."""
    text = re.sub(r"\\\n", "", (LAUNCH / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]


def of(name):
    return [argument for each, argument in instructions() if each == name]


def copied(folder):
    """What "COPY . ." takes of the tree."""
    ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().split()
    patterns = [name.removeprefix("**/") for name in ignored]
    return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*patterns))


def test_the_image_is_made_by_the_steps_of_the_readme_and_runs_as_no_root():
    install = of("RUN")[0]
    assert install.replace('".${EXTRA:+[$EXTRA]}"', ".") in (ROOT / "README.md").read_text()
    for extra, wanted in [("", "."), ("tpu", ".[tpu]"), ("cuda", ".[cuda]")]:
        word = f"EXTRA={extra}; echo {install.split()[-1]}"
        said = subprocess.run(["sh", "-c", word], capture_output=True, text=True)
        assert said.stdout == f"{wanted}\n"
    assert of("COPY") == [". ."] and of("USER") == ["1000:1000"]
    assert [name for name, _ in instructions()][0] == "FROM"


def test_the_steps_of_the_dockerfile_make_what_its_entry_point_runs(tmp_path):
    """RUN, ENV and ENTRYPOINT, with a folder instead of an image."""
    folder = copied(tmp_path / "image")
    (place,) = of("WORKDIR")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for step in of("RUN"):
        subprocess.run(["sh", "-c", step], cwd=folder, env=environment, check=True)
    for setting in of("ENV")[0].replace(place, str(folder)).split():
        name, value = setting.split("=")
        environment[name] = os.path.expandvars(value)
    entry = eval(of("ENTRYPOINT")[0])
    where = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*entry, "--help"], **where)
    assert done.returncode == 0 and "--config=configs/digits.py" in done.stdout, done.stderr
    which = "import ddpm_jax, sys; print(sys.prefix, ddpm_jax.__file__)"
    said = subprocess.run([entry[0], "-c", which], **where).stdout
    assert said.split() == [f"{folder}/.venv", f"{folder}/ddpm_jax/__init__.py"]
    assert all((folder / name).stat().st_mode & 0o1777 == 0o1777 for name in ("runs", "home"))


def test_the_notebook_is_stored_without_outputs_and_names_files_that_are_there():
    notebook = nbformat.read(LAUNCH / "colab.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    configs = re.findall(r"--config=(\S+)", "\n".join(sources))
    assert len(configs) == 2 and all((ROOT / config).is_file() for config in configs)
    assert 'REPOSITORY = ""' in sources[0] and "TRAIN_CIFAR10 = False" in sources[-1]


SHORT = """--config.model.channels=4 --config.model.multipliers=(1,) --config.model.attention=()
--config.train.steps=4 --config.train.batch_size=8 --config.train.log_every=2 --config.eval.images=24
--config.eval.batch_size=12 --config.parallel.devices=1"""


def test_the_notebook_trains_samples_and_shows_grids_and_figures_from_a_clone(digits, tmp_path):
    """In a kernel of its own, from a clone, as Colab runs it."""
    origin = copied(tmp_path / "origin")
    commit = "git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm all"
    subprocess.run(["sh", "-c", commit], cwd=origin, check=True)
    notebook = nbformat.read(LAUNCH / "colab.ipynb", as_version=4)
    first = notebook.cells[1]
    first.source = first.source.replace('REPOSITORY = ""', f'REPOSITORY = "file://{origin}"')
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["DDPM_JAX_NOTEBOOK_FLAGS"] = f"{SHORT} --config.data.data_dir={digits}"
    content = tmp_path / "content"
    content.mkdir()
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(content)}}
    ).execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "trained to step 4" in said and "bits/dim" in said and "ddpm_jax: " not in said
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    run = content / "ddpm_jax" / "runs" / "digits"
    names = ("samples/*-grid.png", "samples/*-ddim-*.png", "figures/*.png")
    drawn = [path for name in names for path in run.glob(name)]
    assert len(shown) == len(drawn) >= 2 + 7, said
    assert not (content / "ddpm_jax" / "ddpm_jax.egg-info").exists()  # nothing was installed
