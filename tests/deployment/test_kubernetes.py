import tempfile
from pathlib import Path

import kubernetes_validate
import pytest

from tests.deployment.commands import problems, project, redis_problems, settings_of
from tests.deployment.conftest import OVERLAYS, Served
from tests.deployment.dockerfile import Dockerfile
from tests.deployment.manifests import containers_of, hardening_problems, reference_problems
from tests.deployment.test_compose import assert_a_cache
from tests.deployment.workloads import Object, Workload, pods_of

# The oldest release that has all that is used here, and the newest whose schemas are there.
RELEASES = ("1.29", "1.37")
KINDS = {
    "ConfigMap",
    "CronJob",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Namespace",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Service",
}


def only(objects: list[Object], kind: str, name: str = "meet") -> Object:
    [found] = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_is_valid(objects: list[Object], release: str) -> None:
    for one in objects:
        kubernetes_validate.validate(one, release, strict=True)


def test_an_overlay_has_every_kind_and_no_secret(objects: list[Object]) -> None:
    assert {one["kind"] for one in objects} == KINDS


def test_every_object_is_in_the_namespace_and_labelled(objects: list[Object]) -> None:
    for one in objects:
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "meet"
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "meet"


def test_names_lead_somewhere(objects: list[Object]) -> None:
    assert reference_problems(objects) == []


def test_every_pod_is_hardened(objects: list[Object]) -> None:
    pods = pods_of(objects)
    assert len(pods) == 3
    assert [why for name, pod in pods.items() for why in hardening_problems(name, pod)] == []


def test_every_container_asks_for_what_there_is(
    containers: dict[str, Workload], dockerfile: Dockerfile, served: Served
) -> None:
    own = [one for one in containers.values() if one.ours]
    assert len(own) == 4
    assert [w for one in own for w in problems(one, served.routes, dockerfile.copied)] == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_runs_its_own_image_of_this_version(
    rendered: dict[str, list[Object]], name: str
) -> None:
    images = {
        one["image"] for pod in pods_of(rendered[name]).values() for one in containers_of(pod)
    }
    assert images == {f"meet-retrieval:{project()['version']}-{name}", "redis:7.2-bookworm"}


def test_the_overlay_gpu_is_the_overlay_cpu_on_a_gpu(rendered: dict[str, list[Object]]) -> None:
    for name, on_gpu in (("cpu", False), ("gpu", True)):
        pods = pods_of(rendered[name])
        for kind in ("Deployment/meet", "CronJob/meet-rebuild"):
            [container] = pods[kind]["spec"]["containers"]
            limits, arguments = container["resources"]["limits"], container["args"]
            assert limits.get("nvidia.com/gpu") == (1 if on_gpu else None)
            assert (arguments[-2:] == ["--device", "cuda"]) is on_gpu
            assert ("--device" in arguments) is on_gpu
            tolerated = [one["key"] for one in pods[kind]["spec"].get("tolerations", [])]
            assert tolerated == ["nvidia.com/gpu"] * on_gpu


def test_a_roll_on_gpus_needs_no_gpu_to_spare(rendered: dict[str, list[Object]]) -> None:
    roll = only(rendered["gpu"], "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert roll == {"maxSurge": 0, "maxUnavailable": 1}


def test_the_server_has_a_startup_a_liveness_and_a_readiness_probe(objects: list[Object]) -> None:
    [meet] = pods_of(objects)["Deployment/meet"]["spec"]["containers"]
    asked = {kind: meet[kind]["httpGet"]["path"] for kind in meet if kind.endswith("Probe")}
    assert asked == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }


def test_the_readiness_probe_outlasts_the_probe_query(
    objects: list[Object], containers: dict[str, Workload]
) -> None:
    [meet] = pods_of(objects)["Deployment/meet"]["spec"]["containers"]
    told = settings_of(containers["Deployment/meet/meet"])
    assert meet["readinessProbe"]["timeoutSeconds"] > told.probe_seconds


def test_a_stop_waits_for_the_server_to_drain(
    objects: list[Object], containers: dict[str, Workload]
) -> None:
    pod = pods_of(objects)["Deployment/meet"]["spec"]
    [meet] = pod["containers"]
    program, seconds = meet["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    told = settings_of(containers["Deployment/meet/meet"])
    assert pod["terminationGracePeriodSeconds"] > int(seconds) + told.shutdown_seconds


def test_the_rebuild_writes_what_the_servers_read(containers: dict[str, Workload]) -> None:
    scenes, build = (containers[f"CronJob/meet-rebuild/{name}"] for name in ("gallery", "build"))
    meet = containers["Deployment/meet/meet"]
    assert _claim(scenes, "--out") == _claim(build, "--gallery") == "meet-gallery"
    assert _claim(build, "--out") == _claim(meet, "--index") == "meet-index"
    assert all(not mount.writable for mount in meet.mounts if mount.path != "/tmp")


def _claim(workload: Workload, flag: str) -> str:
    mount = workload.mount(workload.value(flag))
    assert mount is not None
    assert mount.path == workload.value(flag)
    return mount.source


def test_two_rebuilds_never_run_at_once(objects: list[Object]) -> None:
    spec = only(objects, "CronJob", "meet-rebuild")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_servers_on_several_nodes_can_share_the_claims(objects: list[Object]) -> None:
    for name in ("meet-index", "meet-gallery"):
        claim = only(objects, "PersistentVolumeClaim", name)["spec"]
        assert claim["accessModes"] == ["ReadWriteMany"]


def test_the_number_of_servers_is_the_autoscaler_s_alone(objects: list[Object]) -> None:
    assert "replicas" not in only(objects, "Deployment")["spec"]
    spec = only(objects, "HorizontalPodAutoscaler")["spec"]
    assert 1 <= spec["minReplicas"] < spec["maxReplicas"]


def test_redis_is_where_the_servers_look_for_it(
    objects: list[Object], containers: dict[str, Workload]
) -> None:
    services = [one for one in objects if one["kind"] == "Service"]
    addresses = {
        (one["metadata"]["name"], port["port"]) for one in services for port in one["spec"]["ports"]
    }
    assert redis_problems(containers["Deployment/meet/meet"], addresses) == []


@pytest.mark.redis
def test_redis_takes_the_pod_s_command(rendered: dict[str, list[Object]]) -> None:
    [redis] = pods_of(rendered["cpu"])["Deployment/meet-redis"]["spec"]["containers"]
    with tempfile.TemporaryDirectory(prefix="redis") as folder:
        assert_a_cache((*redis["command"], *redis["args"]), Path(folder) / "s")


def test_a_scraper_is_told_where_the_metrics_are(
    objects: list[Object], containers: dict[str, Workload], served: Served
) -> None:
    told = pods_of(objects)["Deployment/meet"]["metadata"]["annotations"]
    assert told["prometheus.io/scrape"] == "true"
    assert told["prometheus.io/path"] in served.routes
    assert int(told["prometheus.io/port"]) in containers["Deployment/meet/meet"].ports
