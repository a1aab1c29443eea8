"""What Kubernetes' schemas cannot see: names that point at each other, and hardening."""

from collections.abc import Iterable, Iterator, Mapping

from tests.deployment.workloads import Object, pods_of

PORT_KINDS = ("startupProbe", "livenessProbe", "readinessProbe")


def reference_problems(objects: list[Object]) -> list[str]:
    """Names, selectors and ports that lead nowhere."""
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    pods = pods_of(objects)
    found = [*_pod_references(pods, by_name)]
    for one in objects:
        where = f"{one['kind']}/{one['metadata']['name']}"
        match one["kind"]:
            case "Service":
                found += _service_problems(where, one["spec"], pods)
            case "HorizontalPodAutoscaler":
                target = one["spec"]["scaleTargetRef"]
                if (target["kind"], target["name"]) not in by_name:
                    found.append(f"{where}: there is no {target['kind']} {target['name']}")
            case "PodDisruptionBudget":
                found += _selector_problems(where, one["spec"]["selector"], pods)
            case "NetworkPolicy":
                found += _policy_problems(where, one["spec"], pods)
            case "Deployment":
                own = {where: pods[where]}
                found += _selector_problems(where, one["spec"]["selector"], own)
    return found


def selected(labels: Mapping[str, str], pods: Mapping[str, Object]) -> dict[str, Object]:
    """The pods that carry all these labels."""
    return {
        name: pod
        for name, pod in pods.items()
        if labels.items() <= pod["metadata"]["labels"].items()
    }


def _pod_references(
    pods: Mapping[str, Object], by_name: Mapping[tuple[str, str], Object]
) -> Iterator[str]:
    for name, pod in pods.items():
        volumes = {one["name"]: one for one in pod["spec"].get("volumes", [])}
        for one in volumes.values():
            claim = one.get("persistentVolumeClaim", {}).get("claimName")
            if claim and ("PersistentVolumeClaim", claim) not in by_name:
                yield f"{name}: there is no claim {claim}"
        for container in containers_of(pod):
            for one in container.get("volumeMounts", []):
                if one["name"] not in volumes:
                    yield f"{name}: there is no volume {one['name']}"
            yield from _source_problems(name, container, by_name)
            yield from _probe_ports(name, container)


def _source_problems(
    name: str, container: Object, by_name: Mapping[tuple[str, str], Object]
) -> Iterator[str]:
    """ConfigMaps have to be there; Secrets are the user's, who may have none."""
    for one in container.get("envFrom", []):
        if "configMapRef" in one and ("ConfigMap", one["configMapRef"]["name"]) not in by_name:
            yield f"{name}: there is no ConfigMap {one['configMapRef']['name']}"
        if "secretRef" in one and not one["secretRef"].get("optional"):
            yield f"{name}: the Secret {one['secretRef']['name']} has to be optional"


def _probe_ports(name: str, container: Object) -> Iterator[str]:
    named = {one["name"] for one in container.get("ports", [])}
    for kind in PORT_KINDS:
        for handler in container.get(kind, {}).values():
            port = handler.get("port") if isinstance(handler, dict) else None
            if isinstance(port, str) and port not in named:
                yield f"{name}: {kind} asks a port {port}, which the container does not name"


def _service_problems(where: str, spec: Object, pods: Mapping[str, Object]) -> Iterator[str]:
    chosen = selected(spec["selector"], pods)
    if len(chosen) != 1:
        yield f"{where}: its selector chooses {len(chosen)} kinds of pods, needs one"
    for port in spec["ports"]:
        if any(port["targetPort"] not in _port_names(pod) for pod in chosen.values()):
            yield f"{where}: no container names a port {port['targetPort']}"


def _selector_problems(where: str, selector: Object, pods: Mapping[str, Object]) -> list[str]:
    return (
        [] if selected(selector["matchLabels"], pods) else [f"{where}: its selector chooses none"]
    )


def _policy_problems(where: str, spec: Object, pods: Mapping[str, Object]) -> Iterator[str]:
    yield from _selector_problems(where, spec["podSelector"], pods)
    own = selected(spec["podSelector"]["matchLabels"], pods)
    for rule in spec.get("ingress", []):
        yield from _rule_problems(where, rule, rule.get("from", []), own, pods)
    for rule in spec.get("egress", []):
        peers = rule.get("to", [])
        chosen = {n: p for peer in peers for n, p in _peer(peer, pods).items()}
        yield from _rule_problems(where, rule, peers, chosen, pods)


def _rule_problems(
    where: str,
    rule: Object,
    peers: list[Object],
    receivers: Mapping[str, Object],
    pods: Mapping[str, Object],
) -> Iterator[str]:
    for peer in peers:
        yield from _selector_problems(where, peer["podSelector"], pods)
    for port in rule.get("ports", []):
        names = {name for pod in receivers.values() for name in _port_names(pod)}
        if isinstance(port["port"], str) and port["port"] not in names:
            yield f"{where}: no container names a port {port['port']}"


def _peer(peer: Object, pods: Mapping[str, Object]) -> dict[str, Object]:
    return selected(peer["podSelector"]["matchLabels"], pods)


def _port_names(pod: Object) -> set[str]:
    return {port["name"] for one in containers_of(pod) for port in one.get("ports", [])}


def containers_of(pod: Object) -> Iterable[Object]:
    """All containers of a pod, those that come first included."""
    return (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])


def hardening_problems(name: str, pod: Object) -> list[str]:
    """What a pod may do beyond what it needs."""
    spec, found = pod["spec"], []
    context = spec["securityContext"]
    if not context.get("runAsNonRoot") or not context.get("runAsUser"):
        found.append("may run as root")
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("has no seccomp profile")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("gets a token of the cluster")
    if spec.get("enableServiceLinks") is not False:
        found.append("gets variables such as MEET_PORT from the Services beside it")
    found += [why for one in containers_of(pod) for why in _loose(one)]
    found += [
        f"volume {one['name']} has no size limit"
        for one in spec.get("volumes", [])
        if "emptyDir" in one and "sizeLimit" not in one["emptyDir"]
    ]
    return [f"{name}: {why}" for why in found]


def _loose(container: Object) -> Iterator[str]:
    context, name = container.get("securityContext", {}), container["name"]
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    if not context.get("readOnlyRootFilesystem"):
        yield f"{name} may write to its root"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} keeps capabilities"
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield f"{name} has no limit of memory"
