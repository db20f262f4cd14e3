"""A dataset behind a signed URL: its signature is kept nowhere, and signed anew it is the same run."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from specbatch.errors import DatasetError, SpecbatchError
from specbatch.runner.display import JsonDisplay
from specbatch.runner.job import run_job
from tests.runner.tiny import read_lines

ROWS = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(4)]
SECRET = "s3cr3tSignature01"


@pytest.fixture
def signed_url():
    """A server that gives the rows to whoever has a signature, and what to append it to."""
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            signed = "X-Amz-Signature=" in self.path
            self.send_response(200 if signed else 403)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return signed

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/rows.jsonl?versionId=7&X-Amz-Date={{0}}&X-Amz-Signature={SECRET}{{0}}"
    server.shutdown()
    server.server_close()


def everything_in(folder):
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()).decode()


@pytest.mark.slow
def test_a_signature_is_nowhere_and_a_url_that_is_signed_anew_goes_on_with_the_same_run(make_job, signed_url, tmp_path):
    said = io.StringIO()
    publish = f"results.publish=file://{tmp_path / 'published'}"
    for number in (1, 2):
        job = make_job([], f"dataset.uri={json.dumps(signed_url.format(number))}", publish)
        summary = run_job(job, display=JsonDisplay(said))
    assert summary.skipped == len(ROWS)
    assert sorted(line["id"] for line in read_lines(tmp_path / "results/tiny")) == [row["id"] for row in ROWS]
    kept = everything_in(tmp_path / "results") + everything_in(tmp_path / "published") + said.getvalue()
    assert SECRET not in kept
    assert "X-Amz" not in kept
    manifest = json.loads((tmp_path / "results/tiny/manifest-00000-of-00001.json").read_text())
    assert manifest["spec"]["spec"]["dataset"]["uri"].endswith("/rows.jsonl?versionId=7&REDACTED")
    assert manifest["identity"]["spec"]["dataset"]["uri"].endswith("/rows.jsonl?versionId=7")


def test_a_dataset_that_cannot_be_read_is_named_without_its_signature(make_job, signed_url):
    uri = signed_url.format(1).replace("X-Amz-Signature", "token")  # which this server does not take
    with pytest.raises(SpecbatchError) as refused:
        run_job(make_job([], f"dataset.uri={json.dumps(uri)}"))
    assert SECRET not in str(refused.value)
    assert "REDACTED" in str(refused.value)


def test_a_uri_from_a_manifest_is_not_tried_without_its_signature(make_job):
    with pytest.raises(DatasetError, match=r"not kept with the run(.|\n)*--set dataset\.uri="):
        run_job(make_job([], "dataset.uri='https://h/rows.jsonl?REDACTED'"))
