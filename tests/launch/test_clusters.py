"""What a process learns of its peers from the machine it is on, by jax's own detection."""

import http.server
import threading

import pytest

from ddpm_jax.distributed import processes


class Metadata(http.server.BaseHTTPRequestHandler):
    """What a TPU machine's metadata server says of a slice of two hosts; the port tells which it is."""

    def do_GET(self):
        answers = {
            "agent-worker-number": str(self.server.number),
            "worker-network-endpoints": "unknown:unknown:127.0.0.1,unknown:unknown:127.0.0.1",
            "tpu-env": "ZONE: 'nowhere'",
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answers[self.path.rpartition("/")[2]].encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata():
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) for _ in range(2)]
    for number, server in enumerate(servers):
        server.number = number
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()


@pytest.fixture
def on_a_tpu(monkeypatch):
    """This machine taken for one with a TPU."""
    monkeypatch.setattr(processes, "running_in_cloud_tpu_vm", True)
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
    return monkeypatch


def found():
    coordinator, *rest = processes.detect_cluster(10.0)
    return coordinator.partition(":")[0], *rest


@pytest.mark.parametrize("number", [0, 1])
def test_a_cloud_tpu_slice_is_read_off_its_metadata(on_a_tpu, metadata, number):
    on_a_tpu.setenv("GCE_METADATA_IP", metadata[number])
    assert found() == ("127.0.0.1", 2, number, None)


@pytest.mark.parametrize("number", [0, 1])
def test_a_slice_on_gke_is_read_off_its_environment(on_a_tpu, metadata, number):
    on_a_tpu.setenv("GCE_METADATA_IP", metadata[1 - number])  # asked for several slices only
    on_a_tpu.setenv("TPU_WORKER_HOSTNAMES", "127.0.0.1,other")
    on_a_tpu.setenv("TPU_WORKER_ID", f"{number}")
    assert found() == ("127.0.0.1", 2, number, None)


def test_one_host_s_tpu_as_on_colab_asks_nobody(on_a_tpu):
    on_a_tpu.setenv("GCE_METADATA_IP", "127.0.0.1:1")
    on_a_tpu.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    assert processes.detect_cluster(10.0)[1] == 1
    on_a_tpu.delenv("TPU_WORKER_HOSTNAMES")
    on_a_tpu.setenv("TPU_SKIP_MDS_QUERY", "1")
    assert processes.detect_cluster(10.0)[1] == 1


def test_a_tpu_machine_that_does_not_tell_is_no_lone_one(on_a_tpu):
    on_a_tpu.setenv("GCE_METADATA_IP", "127.0.0.1:1")
    with pytest.raises(ValueError, match="--num_processes=1 if it is alone"):
        processes.detect_cluster(10.0)


def test_slurm_tells_number_and_count(monkeypatch):
    told = {
        "JOB_ID": "7",
        "STEP_NODELIST": "gpu[03-04]",
        "NTASKS": "2",
        "PROCID": "1",
        "LOCALID": "0",
    }
    for name, value in told.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert found() == ("gpu03", 2, 1, [0])
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert processes.detect_cluster(10.0)[1] == 1
