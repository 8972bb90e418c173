from __future__ import annotations

import re

import pytest

from conftest import ROOT


def test_the_cluster_of_the_docs_is_one_that_kubernetes_can_read() -> None:
    yaml = pytest.importorskip("yaml")
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    found = yaml.safe_load(text)
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayCluster")
    head, (workers,) = found["spec"]["headGroupSpec"], found["spec"]["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    images = set()
    for group in (head, workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        images.add(container["image"])
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert len(images) == 1  # one version everywhere
