"""Pictures from S3, and results into it; needs moto, which stands in for the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from scrfd_trt import SCRFDDetector
from scrfd_trt.distributed._parts import Output, detect_part, plan_parts

moto = pytest.importorskip("moto.server")
fs = pytest.importorskip("pyarrow.fs")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.slow


@pytest.fixture
def query(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start the service; what an address ends with that leads there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"region=us-east-1&scheme=http&endpoint_override={host}:{port}"
    server.stop()


def test_from_a_bucket_into_another(query: str, spot: Callable[[int], bytes], spot_detector: SCRFDDetector) -> None:
    store, _ = fs.FileSystem.from_uri(f"s3://pictures?{query}&allow_bucket_creation=true")
    for bucket in ("pictures", "results"):
        store.create_dir(bucket)
    for number, name in enumerate(["a.png", "b c/ü #1%.png", "b c/d?.png", "x.txt"]):
        with store.open_output_stream(f"pictures/{name}") as file:
            file.write(spot(number))
    output = Output(f"s3://results/run?{query}")
    for _ in range(2):
        with output.begun({}):
            for part in output.left(plan_parts(f"s3://pictures?{query}", 2)):
                output.write_part(part, *detect_part(part, spot_detector))
    names = pq.read_table("results/run/faces", filesystem=store)["image"].to_pylist()
    assert names == ["s3://pictures/a.png", "s3://pictures/b%20c/d%3F.png", "s3://pictures/b%20c/%C3%BC%20%231%25.png"]
    assert output.totals() == {"parts": 2, "pictures": 3, "failures": 0, "faces": 3}
    assert [entry.name for entry in output.place.entries()] == ["faces", "run.json"]
