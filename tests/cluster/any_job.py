"""Any job section that may go to a cluster: every field, in every form it may have, left out and null."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NOT_IN_YAML = "".join(map(chr, [*range(0x7F, 0xA0), 0xFEFF, 0xFFFE, 0xFFFF]))  # the chart refuses them


names = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5}){0,2}", fullmatch=True).filter(
    lambda name: name not in {"results", "model-cache", "data", "spec", "tmp", "cache", "shm"}
)
long_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)
keys = st.sampled_from(["team", "example.com/team", "a.b-c/D_e.f", "x"])
label_values = st.sampled_from(["", "search", "A_b.c-1", "1", "true", "1e3"])
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=NOT_IN_YAML), max_size=20
) | st.sampled_from(
    ["<&>", "a\nb", "  padded ", "- x", "{{ .Values }}", "null", "\u2028", "1", "é😀", "a\r\nb\r", "---\n---", "#"]
)
words = texts.filter(lambda text: bool(text.strip("\x1c\x1d\x1e\x1f\x85\xa0 \t\r\n\v\f")) and text.isprintable())
variables = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).filter(
    lambda name: (
        name.lower() not in {"y", "n", "yes", "no", "on", "off"}
        and not name.upper().endswith(("TOKEN", "KEY", "SECRET"))
    )
)
quantities = st.sampled_from([1, 4, 0.5, 1.0, 2.75, "500m", "16Gi", "1e3", "0.1", "2Ti", 1000000, 12345678901, 1e-6])
durations = st.floats(0.001, 50) | st.integers(1, 50)
small = st.integers(0, 1_000_000)
free = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9).filter(bool) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcde"), inner, max_size=3),
    max_leaves=6,
)
sections = st.dictionaries(st.sampled_from(["nodeAffinity", "podAffinity"]), free, max_size=2)
affinities = st.just({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}})
spreads = st.just({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"})
free_spreads = st.dictionaries(st.sampled_from(["topologyKey", "maxSkew"]), free, max_size=2)


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Each field is there, is null, or is not there."""
    optional = {name: value | st.none() for name, value in fields.items()}
    return st.fixed_dictionaries({}, optional=optional)


def amounts() -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(
        st.sampled_from(["cpu", "memory", "ephemeral-storage", "example.com/fpga"]), quantities, max_size=2
    )


empty_dirs = maybe(medium=st.sampled_from(["", "Memory"]), sizeLimit=quantities)
csi = st.builds(
    dict.__or__,
    st.fixed_dictionaries({"driver": names}),
    maybe(
        readOnly=st.booleans(),
        fsType=st.sampled_from(["ext4", ""]),
        volumeAttributes=st.dictionaries(st.sampled_from(["bucketName", "mountOptions"]), texts, max_size=2),
        secretName=names,
    ),
)


def sources(*, lasting: bool) -> st.SearchStrategy[dict[str, Any]]:
    kinds = [
        names.map(lambda name: {"claimName": name}),
        st.just({"hostPath": "/mnt/x"}),
        csi.map(lambda one: {"csi": one}),
    ]
    return st.one_of(*kinds, *([] if lasting else [empty_dirs.map(lambda one: {"emptyDir": one})]))


def volume(path: str, *, lasting: bool = False, read_only: bool = True, fixed: bool = False) -> st.SearchStrategy[Any]:
    paths = st.sampled_from([path, f"{path}//", f"{path}/."])
    more = {"subPath": st.sampled_from(["a", "b/c"]), **({"readOnly": st.booleans()} if read_only else {})}
    mount = st.fixed_dictionaries({"mountPath": paths}) if fixed else maybe(mountPath=paths)
    return st.builds(lambda source, where, rest: source | where | rest, sources(lasting=lasting), mount, maybe(**more))


def extra_volumes() -> st.SearchStrategy[Any]:
    one = [
        st.builds(
            lambda name, made, index=index: {"name": f"{name}{index}", **made},
            names,
            volume(f"/mnt/{index}", fixed=True),
        )
        for index in range(2)
    ]
    return st.lists(st.integers(0, 1), unique=True, max_size=2).flatmap(
        lambda which: st.tuples(*(one[index] for index in which)).map(list)
    )


tolerations = st.sampled_from(
    [
        {"key": "dedicated", "operator": "Exists"},
        {"key": "dedicated", "value": "batch", "effect": "NoSchedule"},
        {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        {"key": "a/b", "value": None, "effect": None},
    ]
)

containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["runner", "sidecar"])},
        optional={
            "env": st.lists(
                st.builds(
                    lambda name, value: {"name": name, "value": value},
                    st.sampled_from(["HOME", "NEW", "USER"]),
                    texts,
                ),
                max_size=3,
            ),
            "args": st.lists(texts, max_size=2),
            "ports": st.just([{"containerPort": 80}, {"containerPort": 80, "name": "http"}]),
            "volumeMounts": st.just(
                [
                    {"mountPath": "/tmp", "readOnly": None, "name": "cache"},
                    {"mountPath": "/n", "name": "new"},
                ]
            ),
            "resources": st.just({"limits": {"nvidia.com/gpu": None, "cpu": "3"}}),
            "image": st.none() | st.just("other"),
        },
    ),
    max_size=2,
)

pod_templates = st.fixed_dictionaries(
    {},
    optional={
        "metadata": maybe(
            annotations=st.dictionaries(keys, texts, max_size=2), labels=st.dictionaries(keys, label_values, max_size=1)
        ),
        "spec": st.builds(
            dict.__or__,
            st.fixed_dictionaries({}, optional={"containers": containers}),
            maybe(
                dnsPolicy=st.just("Default"),
                hostUsers=st.just(False),
                enableServiceLinks=st.booleans(),
                nodeSelector=st.dictionaries(keys, label_values | st.none(), max_size=2),
                securityContext=maybe(fsGroup=st.just(5), runAsUser=small, seccompProfile=st.none()),
                imagePullSecrets=st.just([{"name": "more"}]),
                volumes=st.just(
                    [{"name": "cache", "emptyDir": {"sizeLimit": "5Gi"}}, {"name": "new", "emptyDir": {"medium": None}}]
                ),
                initContainers=st.just([{"name": "first", "image": "busybox", "env": [{"name": "A", "value": None}]}]),
                tolerations=st.just([{"operator": "Exists"}]),
            ),
        ),
    },
)


@st.composite
def jobs(draw: st.DrawFn, *, published: bool, real: bool) -> dict[str, Any]:
    """A job section; `real`: free-form parts are what Kubernetes has, too."""
    completions = draw(st.integers(1, 100_000))
    section = draw(
        maybe(
            image=st.just("registry.example.com/a/b@sha256:" + "0" * 64),
            imagePullPolicy=st.sampled_from(["Always", "Never"]),
            imagePullSecrets=st.lists(names.map(lambda name: {"name": name}), max_size=2),
            parallelism=st.integers(1, completions),
            backoffLimitPerIndex=small,
            maxFailedIndexes=small,
            activeDeadlineSeconds=st.integers(1, 10**7),
            ttlSecondsAfterFinished=small,
            terminationGracePeriodSeconds=st.integers(51, 10**6),
            gpuResourceName=st.sampled_from(["amd.com/gpu", "nvidia.com/mig-3g.40gb"]),
            resources=maybe(requests=amounts()) | maybe(limits=amounts()),
            sharedMemory=quantities,
            nodeSelector=st.dictionaries(keys, label_values, max_size=2),
            tolerations=st.lists(tolerations, max_size=2),
            affinity=affinities if real else sections,
            topologySpreadConstraints=st.lists(spreads if real else free_spreads, max_size=2),
            runtimeClassName=names,
            priorityClassName=st.just("123"),
            queueName=names,
            serviceAccountName=names,
            env=st.dictionaries(variables | st.sampled_from(["HOME", "HF_HOME"]), texts, max_size=3),
            secretEnv=st.dictionaries(
                st.sampled_from(["HF_TOKEN", "USER", "AWS_SECRET_ACCESS_KEY"]),
                st.builds(
                    dict.__or__, st.fixed_dictionaries({"name": names, "key": words}), maybe(optional=st.booleans())
                ),
                max_size=2,
            ),
            secretEnvFrom=st.lists(
                st.builds(dict.__or__, st.fixed_dictionaries({"name": names}), maybe(optional=st.booleans())),
                max_size=2,
            ),
            podTemplate=pod_templates
            if real
            else pod_templates | st.fixed_dictionaries({"spec": st.dictionaries(st.just("somethingNew"), free)}),
        )
    )
    if "imagePullSecrets" in (section.get("podTemplate") or {}).get("spec", {}) or draw(st.booleans()):
        section["allowPrivilegedPodTemplate"] = True
    volumes = draw(
        maybe(modelCache=volume("/models"), data=volume("/data"), extra=extra_volumes())
        if published
        else st.builds(
            lambda results, rest: {**rest, "results": results},
            volume("/results", lasting=True, read_only=False),
            maybe(modelCache=volume("/models"), data=volume("/data"), extra=extra_volumes()),
        )
    )
    if section.get("secretEnv") and section.get("env"):
        section["env"] = {name: value for name, value in section["env"].items() if name not in section["secretEnv"]}
    return {**section, "completions": completions, "volumes": volumes}
