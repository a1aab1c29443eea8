"""The checks themselves: each has to notice the mistake that it is there for."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest

from tests.deployment.commands import (
    command_problems,
    is_setting,
    problems,
    redis_problems,
    variable_problems,
)
from tests.deployment.manifests import hardening_problems, reference_problems
from tests.deployment.workloads import Mount, Object, Probe, Workload, pods_of

ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
SERVER = Workload(
    name="meet",
    image="meet-retrieval:1",
    command=("meet-serve", "--index", "/index", "--host", "0.0.0.0", "--port", "8000"),
    environment={"MEET_REDIS_URL": "redis://redis:6379/0"},
    mounts=(Mount("/index", "index", writable=False),),
    ports=(8000,),
    probes=(Probe("/healthz", 8000),),
)


def test_a_sound_server_has_no_problems() -> None:
    assert problems(SERVER, ROUTES, {}) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"command": ("meet-serve", "--indx", "/index")}, "--indx"),
        ({"command": ("meet-serve", "--index")}, "--index: expected one argument"),
        ({"command": ("meet-serve", "--port", "http")}, "--port: invalid int value"),
        ({"command": (*SERVER.command[:-1], "80000")}, "port: Input should be less than"),
        ({"command": ("meet-server",)}, "no such command: meet-server"),
        ({"command": (*SERVER.command[:-1], "8001")}, "port 8000 is not 8001"),
        ({"command": SERVER.command[:3]}, "it listens on 127.0.0.1 alone"),
        ({"environment": {"MEET_REDIS_ULR": ""}}, "nothing reads the variable MEET_REDIS_ULR"),
        ({"environment": {"MEET_LIMITS__MAX_J": "5"}}, "MEET_LIMITS__MAX_J"),
        ({"environment": {"MEET_PORT__DEEPER": "5"}}, "MEET_PORT__DEEPER"),
        ({"environment": {"OMP_WAIT_POLCY": "PASSIVE"}}, "OMP_WAIT_POLCY"),
        ({"environment": {"MEET_LIMITS__MAX_K": "0"}}, "limits.max_k: Input should be greater"),
        ({"environment": {"MEET_REDIS_URL": "http://r"}}, "redis_url"),
        ({"environment": {"MEET_PORT": "tcp://10.0.0.1:80"}}, "port: Input should be a valid int"),
        ({"ports": (8080,)}, "port 8080 is not 8000"),
        ({"probes": (Probe("/healthz", 80),)}, "port 80 is not 8000"),
        ({"probes": (Probe("/health", 8000),)}, "the app has no GET /health"),
        ({"mounts": ()}, "/index is in no volume"),
        ({"mounts": (Mount("/inde", "index", writable=True),)}, "/index is in no volume"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_server_is_named(changes: dict[str, Any], named: str) -> None:
    found = problems(replace(SERVER, **changes), ROUTES, {})
    assert any(one.startswith("meet: ") and named in one for one in found), found


BUILD = ("meet-build", "--gallery", "/gallery", "--encoder", "/models/scenes", "--out", "/index")


def builder(command: tuple[str, ...] = BUILD, *, writable: bool = True) -> Workload:
    mounts = (Mount("/gallery", "g", writable=False), Mount("/index", "i", writable=writable))
    return Workload("build", "meet-retrieval:1", command, {}, mounts)


@pytest.mark.parametrize(
    ("workload", "named"),
    [
        (builder(BUILD[:-2]), "the following arguments are required: --out"),
        (builder((*BUILD, "--lists", "sometimes")), "invalid choice: 'sometimes'"),
        (builder((*BUILD, "--devise", "cuda")), "--devise cuda"),
        (builder(("meet-build", "verfy", "--index", "/index")), "required: --gallery"),
        (builder(("meet-build", "verify", "--index", "/index", "--fast")), "--fast"),
        (builder(writable=False), "/index cannot be written"),
        (builder((*BUILD[:4], "/models/scene", *BUILD[5:])), "/models/scene is in no volume"),
        (builder(("python", "-m", "index_builder.scene")), "no such command: python -m"),
        (builder(("python", "-m", "index_builder.scenes", "--split", "demo=9")), "required: --out"),
        (builder(("sh", "-c", "until true; do")), "end of file"),
    ],
)
def test_a_mistake_in_a_builder_is_named(workload: Workload, named: str) -> None:
    found = problems(workload, ROUTES, {"/models/scenes": "model/bundled/scenes"})
    assert any(named in one for one in found), found


def test_a_command_of_a_builder_is_taken_whole() -> None:
    assert problems(builder(), ROUTES, {"/models/scenes": "model/bundled/scenes"}) == []
    assert command_problems(("meet-build", "verify", "--index", "/index")) == []


def test_variables_of_settings_are_known_by_their_fields() -> None:
    assert is_setting("MEET_LIMITS__MAX_K")
    assert is_setting("MEET_REDIS_URL")
    assert not is_setting("MEET_LIMIT")
    assert variable_problems({"OMP_WAIT_POLICY": "PASSIVE", "MEET_PORT": "8000"}) == []


def test_a_redis_that_nobody_is_is_named() -> None:
    assert redis_problems(SERVER, {("redis", 6379)}) == []
    assert redis_problems(SERVER, {("redis", 6380)}) == ["meet: nothing is at redis:6379"]
    alone = replace(SERVER, environment={})
    assert redis_problems(alone, {("redis", 6379)}) == ["meet: it is told of no Redis"]


ByName = Mapping[tuple[str, str], Object]
Change = Callable[[ByName], object]


def _by_name(objects: list[Object]) -> ByName:
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def _pod(objects: ByName) -> Object:
    found: Object = objects["Deployment", "meet"]["spec"]["template"]
    return found


def _container(objects: ByName) -> Object:
    found: Object = _pod(objects)["spec"]["containers"][0]
    return found


def _matched(objects: ByName, kind: str) -> Object:
    found: Object = objects[kind, "meet"]["spec"]["selector"]["matchLabels"]
    return found


def _policy(objects: ByName, name: str, side: str) -> Object:
    found: Object = objects["NetworkPolicy", name]["spec"][side][0]
    return found


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda o: o["Service", "meet"]["spec"]["selector"].update({"a": "b"}), "chooses 0"),
        (lambda o: o["Service", "meet"]["spec"]["selector"].clear(), "chooses 3 kinds of pods"),
        (lambda o: o["Service", "meet"]["spec"]["ports"][0].update(targetPort="web"), "port web"),
        (lambda o: o["HorizontalPodAutoscaler", "meet"]["spec"]["scaleTargetRef"].update(name="x"),
         "there is no Deployment x"),
        (lambda o: _matched(o, "PodDisruptionBudget").update(a="b"),
         "PodDisruptionBudget/meet: its selector chooses none"),
        (lambda o: _matched(o, "Deployment").update(a="b"),
         "Deployment/meet: its selector chooses none"),
        (lambda o: _policy(o, "meet-redis", "ingress")["ports"][0].update(port="r"),
         "NetworkPolicy/meet-redis: no container names a port r"),
        (lambda o: _policy(o, "meet-serve", "egress")["to"][0]["podSelector"]["matchLabels"]
         .update(a="b"), "NetworkPolicy/meet-serve: its selector chooses none"),
        (lambda o: _pod(o)["spec"]["volumes"][0]["persistentVolumeClaim"].update(claimName="x"),
         "there is no claim x"),
        (lambda o: _container(o)["volumeMounts"][0].update(name="x"), "there is no volume x"),
        (lambda o: _container(o)["envFrom"][0]["configMapRef"].update(name="x"), "no ConfigMap x"),
        (lambda o: _container(o)["envFrom"][1]["secretRef"].pop("optional"), "has to be optional"),
        (lambda o: _container(o)["readinessProbe"]["httpGet"].update(port="web"),
         "readinessProbe asks a port web"),
    ],
)  # fmt: skip
def test_a_name_that_leads_nowhere_is_named(
    rendered: dict[str, list[Object]], change: Change, named: str
) -> None:
    objects = deepcopy(rendered["cpu"])
    change(_by_name(objects))
    found = reference_problems(objects)
    assert any(named in one for one in found), found


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda p: p["spec"]["securityContext"].pop("runAsNonRoot"), "may run as root"),
        (lambda p: p["spec"]["securityContext"].update(runAsUser=0), "may run as root"),
        (lambda p: p["spec"]["securityContext"].pop("seccompProfile"), "no seccomp profile"),
        (lambda p: p["spec"].pop("automountServiceAccountToken"), "a token of the cluster"),
        (lambda p: p["spec"].pop("enableServiceLinks"), "variables such as MEET_PORT"),
        (lambda p: p["spec"]["volumes"][-1]["emptyDir"].clear(), "has no size limit"),
        (lambda p: p["spec"]["containers"][0]["securityContext"].pop("capabilities"),
         "meet keeps capabilities"),
        (lambda p: p["spec"]["initContainers"][0].pop("securityContext"),
         "wait-for-index may write to its root"),
        (lambda p: p["spec"]["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
         "meet may gain privileges"),
        (lambda p: p["spec"]["containers"][0]["resources"]["limits"].pop("memory"),
         "meet has no limit of memory"),
    ],
)  # fmt: skip
def test_a_pod_that_may_do_more_is_named(
    rendered: dict[str, list[Object]], change: Callable[[Any], object], named: str
) -> None:
    pod = deepcopy(pods_of(rendered["cpu"])["Deployment/meet"])
    change(pod)
    assert [one for one in hardening_problems("pod", pod) if named in one]


def test_a_misspelt_field_makes_no_valid_object(rendered: dict[str, list[Object]]) -> None:
    objects = _by_name(deepcopy(rendered["cpu"]))
    container = _container(objects)
    container["readynessProbe"] = container.pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(objects["Deployment", "meet"], "1.37", strict=True)
