#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drives a real tidemark-step as its agent would: writes step.json, speaks JSON lines on agent.sock, relays mesh frames.

    step_driver.py STEP_BINARY PROGRAMS_DIR [CASE ...]

One line "ok NAME" or "not ok NAME" per case. Python because it only has to talk; all that is tested is the C program."""
import base64
import json
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

STEP, PROGRAMS = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
RANK, RING = f"{PROGRAMS}/step_rank", f"{PROGRAMS}/mpi_ring"
MARK = f"tide-step-test-{os.getpid()}"
ROOT = tempfile.mkdtemp(prefix="tss-")
SHM = tempfile.mkdtemp(prefix="tss-", dir="/dev/shm")
WAIT_S = 60  # no wait of a case is longer
SOON_S = 5   # at once, on a machine that is busy: less than any time-out of what is waited for (cluster_rank.sh measures)
KILL_ROUNDS = int(os.environ.get("STEP_KILL_ROUNDS", "200"))
KILL_S = 50            # on a machine that is busy with other things, fewer rounds must do …
KILL_ROUNDS_LEAST = 40  # … but no fewer than these


class Failed(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def cgroup_root():
    """A control group of version 2 of our own, or None where there is none that we may write."""
    for line in open("/proc/self/mountinfo", encoding="utf-8"):
        if " - cgroup2 " in line:
            path = f"{line.split()[4]}/{MARK}"
            try:
                os.mkdir(path)
                return path
            except OSError:
                return None
    return None


CGROUP = cgroup_root()


def marked():
    """Processes that carry our mark: every rank and whatever it left behind."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if f"TEST_MARK={MARK}".encode() not in environ.read():
                    continue
            state = open(f"/proc/{pid}/stat", encoding="utf-8").read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.append(int(pid))
    return found


class World:
    """The agents of a job: all its steps, the frames between them, and what each last said."""

    worlds = []

    def __init__(self):
        self.worlds.append(self)
        self.uid = f"{os.getpid() % 65536:08x}{len(self.worlds):08x}"
        self.selector = selectors.DefaultSelector()
        self.steps = []
        self.loss = 0.0
        self.frames = 0
        self.modex = 0

    def pump(self, timeout):
        for key, _ in self.selector.select(timeout):
            key.data.read()

    def wait(self, what, condition):
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"gave up waiting: {what}; " + "; ".join(str(s.status) for s in self.steps))
            self.pump(0.02)

    def relay(self, frame):
        kind = frame.get("kind", "fence")
        self.frames += 1
        self.modex += kind.startswith("modex")
        # The last acknowledgement of all can only be waited for in vain, so those of the last fence are not lost.
        if random.random() < self.loss and (kind != "fence_ack" or frame.get("sequence") < 3):
            return
        for step in self.steps:
            if step.node_rank == frame.get("to", 0) and step.socket is not None:
                step.send({"kind": "mesh", "frame": frame})

    def close(self):
        for step in self.steps:
            step.close()
        self.selector.close()
        self.steps = []


class Step:
    """One node's step."""

    def __init__(self, world, argv, nproc=1, node_rank=0, nodes=1, generation=1, launcher="none", netns=None, address="127.0.0.1",
                 dir_name=None, cgroup=True, **more):
        self.world, self.node_rank, self.netns = world, node_rank, netns
        name = dir_name or f"j{len(os.listdir(ROOT))}"
        self.dir = f"{ROOT}/{name}"
        os.makedirs(self.dir)
        self.shm = f"{SHM}/n{node_rank}"
        self.logs = f"{self.dir}/logs"
        job = {"name": "job", "argv": argv, "env": [f"TEST_MARK={MARK}"] + more.pop("env", []), "nproc_per_node": nproc,
               "nnodes": nodes, "launcher": launcher, "cwd": more.pop("cwd", self.dir)}
        self.spec = {"job": job, "uid": world.uid, "generation": generation, "node": f"n{node_rank}.a-b",
                     "node_rank": node_rank, "address": address, "token": "0123456789abcdef" * 2, "dir": self.dir,
                     "peers": [{"node": f"n{i}.a-b"} for i in range(nodes)], "arena": self.shm, "logs": self.logs,
                     "master_address": "127.0.0.1", "master_port": 29400, "restarts": 2,
                     "cgroup": self.group() if cgroup and CGROUP else "", **more}
        self.status, self.socket, self.buffer, self.nudges, self.status_lines = {}, None, b"", 0, 0
        self.environ = {}
        world.steps.append(self)

    def group(self):
        """Each node has control groups of its own, as each agent has."""
        path = f"{CGROUP}/n{self.node_rank}"
        os.makedirs(path, exist_ok=True)
        return path

    def start(self):
        with open(f"{self.dir}/step.json", "w", encoding="utf-8") as out:
            json.dump(self.spec, out)
        command = (["ip", "netns", "exec", self.netns] if self.netns else []) + [STEP, self.dir]
        environ = dict(os.environ, OMPI_MCA_pml="nonsense", SLURM_JOB_ID="77", PMIX_RANK="9", TIDEMARK_JOB="other", **self.environ)
        self.log = open(f"{self.dir}/log", "wb")
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log, env=environ, stdin=subprocess.DEVNULL)
        return self.connect()

    def connect(self):
        deadline = time.monotonic() + WAIT_S
        directory = os.open(self.dir, os.O_PATH)
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                # Through the descriptor: the directory's own path may be too long for an address.
                self.socket.connect(f"/proc/self/fd/{directory}/agent.sock")
                break
            except OSError as error:
                self.socket.close()
                self.socket = None
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise Failed(f"no agent.sock: {error}: " + open(f"{self.dir}/log", encoding="utf-8").read()) from error
                time.sleep(0.005)
        os.close(directory)
        self.buffer = b""
        self.world.selector.register(self.socket, selectors.EVENT_READ, self)
        return self

    def disconnect(self):
        if self.socket is not None:
            self.world.selector.unregister(self.socket)
            self.socket.close()
            self.socket = None

    def read(self):
        try:
            data = self.socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.disconnect()
            return
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if said["kind"] == "status":
                self.status = said["status"]
                self.status_lines += 1
            elif said["kind"] == "mesh":
                self.world.relay(said["frame"])
            elif said["kind"] == "nudge":
                self.nudges += 1

    def send(self, line):
        try:
            self.socket.sendall(json.dumps(line).encode() + b"\n")
        except OSError:
            self.disconnect()

    def end(self, grace_ms=0):
        self.send({"kind": "end", "grace_ms": grace_ms})

    def go_over(self, **more):
        """To the next generation, as the agent has it."""
        self.spec = self.spec | {"born": self.spec.get("born", self.spec["generation"]), "generation": self.spec["generation"] + 1,
                                 "logs": f"{self.dir}/logs{self.spec['generation'] + 1}"} | more
        with open(f"{self.dir}/next.json", "w", encoding="utf-8") as out:
            json.dump(self.spec, out)
        self.send({"kind": "go_over", "generation": self.spec["generation"]})

    def leave(self, generation=None):
        self.send({"kind": "leave", "generation": generation or self.spec["generation"]})

    def pids(self):
        return [rank.get("pid", 0) for rank in self.status.get("ranks", [])]

    def rank(self, local=0):
        ranks = self.status.get("ranks", [])
        return {"state": "unknown", "exit_code": 0, "signal": 0, "detail": "", "exec_failed": False} | (
            ranks[local] if local < len(ranks) else {})

    def all_in(self, *states):
        ranks = self.status.get("ranks", [])
        return bool(ranks) and all(rank["state"] in states for rank in ranks)

    def ended(self):
        return self.status.get("ended", False)

    def out(self, rank=0, stream="out"):
        with open(f"{self.spec['logs']}/rank{rank}.{stream}", encoding="utf-8") as text:
            return text.read()

    def gone(self):
        """The process has exited by itself, its traces are removed, its last word is in the file."""
        try:
            check(self.process.wait(WAIT_S) == 0, f"step's exit status {self.process.returncode}")
        except subprocess.TimeoutExpired as error:
            raise Failed("the step does not exit") from error
        self.disconnect()
        status = json.load(open(f"{self.dir}/status.json", encoding="utf-8"))
        check(status.get("ended"), "status.json does not say ended")
        check(not [f for f in os.listdir(self.shm) if f.startswith("mpi.")], "shared memory is left")
        if self.spec["cgroup"]:
            left = [d for d in os.listdir(self.spec["cgroup"]) if os.path.isdir(f"{self.spec['cgroup']}/{d}")]
            check(not left, f"control groups are left: {left}")
        return status

    def close(self):
        self.disconnect()
        if getattr(self, "process", None) and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if getattr(self, "log", None):
            self.log.close()


def run_alone(argv, **more):
    """Start one step, wait for its end, return it."""
    world = World()
    step = Step(world, argv, **more).start()
    try:
        world.wait("the end", step.ended)
        step.last = step.gone()
        check(not marked(), f"processes are left: {marked()}")
    finally:
        step.close()
    return step


# ---- one node, no MPI ----

def case_exit_codes():
    step = run_alone([RANK, "say", "hello", "exit", "0"], nproc=3)
    check(step.all_in("finished") and step.status["started"], step.status)
    check(step.out(2) == "hello\n", "what rank 2 said")
    step = run_alone([RANK, "exit", "93"])
    check(step.rank()["state"] == "exited" and step.rank()["exit_code"] == 93, step.status)
    check(step.rank()["detail"] == "", "detail says only what the status does not: %s" % step.rank())
    step = run_alone([RANK, "signal", "11"])
    check(step.rank()["signal"] == 11 and step.rank()["exit_code"] == 0, step.rank())


def case_cannot_execute():
    step = run_alone(["./nothing-there", "x"])
    check(step.rank()["exec_failed"] and step.rank()["exit_code"] == 127, step.rank())
    check(step.rank()["detail"] == "cannot execute './nothing-there': No such file or directory", step.rank())
    check("cannot execute 'no-such-program'" in run_alone(["no-such-program"]).rank()["detail"], "a word for PATH")
    step = run_alone(["/etc/passwd"])
    check(step.rank()["exec_failed"] and "Permission denied" in step.rank()["detail"], step.rank())
    step = run_alone(["true"], cwd="/no/such/place")
    check(step.rank()["exec_failed"], step.rank())
    check("cannot enter the working directory '/no/such/place'" in step.rank()["detail"], step.rank())
    script = f"{ROOT}/script"
    with open(script, "w", encoding="utf-8") as out:
        out.write("#!/no/interpreter\n")
    os.chmod(script, 0o755)
    check("interpreter is missing" in run_alone([script]).rank()["detail"], "missing interpreter")
    step = run_alone(["./step_rank", "exit", "5"], cwd=PROGRAMS)
    check(step.rank()["exit_code"] == 5, "argv[0] with a slash is relative to cwd")
    step = run_alone(["step_rank", "exit", "6"], env=[f"PATH=/nowhere:{PROGRAMS}"])
    check(step.rank()["exit_code"] == 6, "the PATH of the job's environment is searched")


def case_environment():
    step = run_alone([RANK, "env"], nproc=2, node_rank=1, nodes=3, env=["OMPI_MCA_x=mine", "RANK=66", "FOO=bar"], launcher="none")
    env = dict(line.split("=", 1) for line in step.out(3).splitlines())
    want = {"RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1", "ROLE_RANK": "3", "ROLE_NAME": "default", "LOCAL_WORLD_SIZE": "2",
            "WORLD_SIZE": "6", "GROUP_WORLD_SIZE": "3", "ROLE_WORLD_SIZE": "6", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400",
            "TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_USE_AGENT_STORE": "False", "OMP_NUM_THREADS": "1",
            "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "TIDEMARK_JOB": "job", "TIDEMARK_GENERATION": "1",
            "TIDEMARK_NODE": "n1.a-b", "OMPI_MCA_x": "mine", "FOO": "bar"}
    check({k: env.get(k) for k in want} == want, {k: env.get(k) for k in want if env.get(k) != want[k]})
    check("SLURM_JOB_ID" not in env and "PMIX_RANK" not in env and "OMPI_MCA_pml" not in env, "another launcher's variables")
    check(env["TIDEMARK_ARENA"] == step.shm and len(env["TIDEMARK_SOCKET"]) <= 107, "socket and arena")


def case_kill_rank():
    world = World()
    step = Step(world, [RANK, "stubborn", "hang"], nproc=2).start()
    world.wait("running", lambda: step.all_in("running"))
    begin = time.monotonic()
    os.kill(step.rank(1)["pid"], signal.SIGKILL)
    world.wait("rank 1 reported", lambda: step.rank(1)["state"] == "exited")
    check(time.monotonic() - begin < SOON_S, f"reported after {time.monotonic() - begin:.3f} s")
    check(step.rank(1)["signal"] == 9 and step.rank(1)["detail"] == "", step.rank(1))
    check(step.rank(0)["state"] == "running", "the other rank is not ours to kill")
    begin = time.monotonic()
    step.end(grace_ms=400)
    world.wait("the end", step.ended)
    check(0.3 < time.monotonic() - begin < 0.4 + SOON_S, f"SIGTERM ignored, killed after {time.monotonic() - begin:.3f} s")
    check("its step was told to end" in step.rank(0)["detail"], step.rank(0))
    step.gone()
    world.close()


def by_rank(*words):
    """Each local rank with words of its own."""
    cases = " ".join(f"{i}) exec {RANK} {w};;" for i, w in enumerate(words))
    return ["sh", "-c", f"case $LOCAL_RANK in {cases} esac"]


def case_stay():
    """Ranks that have asked go over to the next generation, one of them twice; what hangs, or speaks no more, is killed; all else is
    started anew."""
    world = World()
    step = Step(world, by_rank("hello stay left stay left hang", "hello stay left hang", "hang", "hello stay hang",
                               "hello stay finalize hello hang"), nproc=5).start()
    world.wait("running", lambda: step.all_in("running") and all("stays" in step.out(r) for r in (0, 1, 3, 4)))
    first = step.pids()
    begin = time.monotonic()
    os.kill(first[2], signal.SIGKILL)
    step.leave()
    world.wait("left", lambda: step.status.get("left"))
    check(4 < time.monotonic() - begin < 5 + 2 * SOON_S, f"left after {time.monotonic() - begin:.1f} s: rank 3 has its five")
    check([step.rank(r)["state"] for r in range(5)] == ["running", "running", "exited", "exited", "running"], step.status)
    check(step.rank(3)["signal"] == 9, step.rank(3))
    check("asked late: type 3 status 44" in step.out(0), step.out(0))
    world.wait("refused", lambda: "hello: type 3 generation 1 of the job is over" in step.out(4))
    step.go_over()
    world.wait("generation 2", lambda: step.status.get("generation") == 2 and step.all_in("running"))
    check(json.load(open(f"{step.dir}/step.json", encoding="utf-8"))["generation"] == 2, "step.json is that of generation 2")
    second = step.pids()
    check([step.rank(r)["born"] for r in range(5)] == [1, 1, 2, 2, 2], step.status)
    check(second[:2] == first[:2] and not set(second[2:]) & set(first[2:]), f"{first} {second}")
    world.wait("words", lambda: all("next: type 20 generation 2" in step.out(r) for r in (0, 1)) and "stays" in step.out(3))
    check(not step.status.get("left") and not step.status.get("ended"), step.status)

    step.leave(1)  # of which nothing comes: it is another by now
    step.leave()  # rank 1 has not asked in this generation
    world.wait("left again", lambda: step.status.get("left"))
    step.go_over()
    world.wait("generation 3", lambda: step.status.get("generation") == 3 and step.all_in("running"))
    third = step.pids()
    check([step.rank(r)["born"] for r in range(5)] == [1, 3, 3, 3, 3], step.status)
    check(third[0] == first[0] and not set(third[1:]) & set(second[1:]), f"{second} {third}")
    world.wait("words", lambda: "next: type 20 generation 3" in step.out(0))
    step.end()
    world.wait("the end", step.ended)
    step.gone()
    check(not marked(), f"processes are left: {marked()}")
    world.close()


def case_stay_nobody():
    """Nobody has asked, or nobody can: then to leave is to end. And who waits is ended as anybody else."""
    world = World()
    step = Step(world, [RANK, "hello", "hang"], nproc=2).start()
    world.wait("running", lambda: step.all_in("running"))
    step.leave()
    world.wait("the end", step.ended)
    step.gone()
    step = Step(world, [RANK, "hello", "stay", "left", "hang"], dir_name="waits").start()
    world.wait("stays", lambda: step.all_in("running") and "stays" in step.out())
    step.send({"kind": "go_over", "generation": 2})  # of which nothing comes: it has not left
    step.leave()
    world.wait("left", lambda: step.status.get("left"))
    step.go_over(node_rank=1)  # it is none that could go over
    world.wait("the end", step.ended)
    step.gone()
    check(not marked(), f"processes are left: {marked()}")
    world.close()


def case_end_with_grace():
    world = World()
    step = Step(world, [RANK, "wait-term", "hang"]).start()
    world.wait("running", lambda: step.all_in("running"))
    time.sleep(0.1)
    begin = time.monotonic()
    step.end(grace_ms=10000)
    world.wait("the end", step.ended)
    check(step.rank()["exit_code"] == 42 and time.monotonic() - begin < SOON_S, step.rank())
    step.gone()
    world.close()


def case_left_behind():
    for cgroup in (True, False):
        step = run_alone([RANK, "child", "daemon", "exit", "0"], nproc=2, cgroup=cgroup)
        check(step.all_in("finished"), step.status)


def case_logs_rotate():
    lines = 20000  # 14 bytes each
    step = run_alone([RANK, "print", str(lines)], log_bytes_max=100000)
    base = int(open(f"{step.logs}/rank0.out.base", encoding="utf-8").read())
    old, new = step.out(0, "out.1"), step.out()
    whole = "".join(f"line {i:08d}\n" for i in range(lines))
    check(len(old) == 100000 and len(new) <= 100000, f"{len(old)} and {len(new)} bytes")
    check(base == len(whole) - len(old) - len(new) and whole[base:] == old + new, f"base {base}")


def case_agent_comes_and_goes():
    world = World()
    step = Step(world, [RANK, "sleep", "600", "exit", "4"]).start()
    world.wait("running", lambda: step.all_in("running"))
    step.disconnect()
    time.sleep(0.2)
    step.connect()
    world.wait("the status at once", lambda: step.status_lines >= 2)
    step.disconnect()
    check(step.process.wait(WAIT_S) == 0, "the step goes on and ends without an agent")
    status = json.load(open(f"{step.dir}/status.json", encoding="utf-8"))
    check(status["ended"] and status["ranks"][0]["exit_code"] == 4, status)
    step.close()


def case_agent_says_nonsense():
    world = World()
    step = Step(world, [RANK, "sleep", "12500"]).start()
    deaf = step.socket
    world.selector.unregister(deaf)
    step.socket = None
    junk = socket.socket(socket.AF_UNIX)
    junk.connect(f"{step.dir}/agent.sock")
    junk.sendall(b"this is no JSON\n")
    check(junk.recv(1 << 16) != b"" and junk.recv(1 << 16) == b"", "a bad line closes the connection")
    step.connect()
    world.wait("a newer connection is served", lambda: step.all_in("running"))
    step.send({"kind": "end"} | {"grace_ms": 0, "pad": "x" * (1 << 21)})
    world.wait("a line without end closes it", lambda: step.socket is None)
    step.connect()
    world.wait("still there", lambda: step.all_in("running"))
    step.end()
    world.wait("the end", step.ended)
    deaf.close()
    step.gone()
    world.close()


def case_agent_that_does_not_read():
    world = World()
    step = Step(world, [RANK, "sleep", "30000"], nodes=2, launcher="pmix").start()
    world.wait("running", lambda: step.all_in("running"))
    deaf = step.socket
    world.selector.unregister(deaf)
    step.socket = None
    frame = {"uid": world.uid, "generation": 1, "token": step.spec["token"], "from": 1, "to": 0, "kind": "fence", "id": 5, "sequence": 1}
    asked = json.dumps({"kind": "mesh", "frame": frame}).encode() + b"\n"
    for _ in range(300):  # each is acknowledged: far more than the socket and the step's queue hold
        deaf.sendall(asked * 100)
    pages = int(open(f"/proc/{step.process.pid}/statm", encoding="utf-8").read().split()[1])
    check(pages * 4096 < 100 << 20, f"{pages} pages: the step buffers without bound")
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < WAIT_S:
            deaf.sendall(b"\n")
            time.sleep(0.1)
        raise Failed("a deaf agent is never cut off")
    except OSError:
        pass
    step.connect()
    world.wait("a new connection is served", lambda: step.all_in("running"))
    step.end()
    world.wait("the end", step.ended)
    deaf.close()
    step.gone()
    world.close()


def case_step_killed():
    world = World()
    step = Step(world, [RANK, "stubborn", "hang"], nproc=3, cgroup=False).start()
    world.wait("running", lambda: step.all_in("running"))
    check(len(marked()) == 3, marked())
    step.process.kill()
    world.wait("ranks die with their step", lambda: not marked())
    world.close()


def case_terminated():
    world = World()
    step = Step(world, [RANK, "hang"]).start()
    world.wait("running", lambda: step.all_in("running"))
    step.process.terminate()
    world.wait("SIGTERM ends it as an order does", step.ended)
    check(step.rank()["signal"] == signal.SIGTERM, step.rank())
    step.gone()
    world.close()


def case_library():
    world = World()
    step = Step(world, [RANK, "hello", "reserve", "1000000", "reserve", "9000000", "restore", "exit", "0"], arena_bytes_max=4000000).start()
    world.wait("the first question", lambda: step.status.get("asks"))
    ask = step.status["asks"][0]
    check(ask["bad_slot"] == -1 and ask["attempt"] == 1 and step.rank()["attached"], step.status)
    check(step.rank()["state"] == "restoring", step.rank())
    step.disconnect()
    time.sleep(1.5)  # longer than the library waits in silence: the step says that the question stands
    step.connect()
    world.wait("asked again of a new agent", lambda: step.status_lines and step.status.get("asks"))
    answer = {"rank": 0, "attempt": 1, "result": 8, "slot": 1, "cut": 17, "tier": 0}
    step.send({"kind": "answer", "answer": dict(answer, attempt=9)})
    step.send({"kind": "answer", "answer": answer})
    step.send({"kind": "answer", "answer": answer})
    world.wait("the second question", lambda: [a for a in step.status.get("asks", []) if a["attempt"] == 2])
    ask = step.status["asks"][0]
    check(ask["bad_slot"] == 1 and ask["bad_detail"] == "chunk 7 is bad", ask)
    step.send({"kind": "answer", "answer": {"rank": 0, "attempt": 2, "result": 8, "slot": 0, "cut": 17, "tier": 1}})
    world.wait("the end", step.ended)
    out = step.out().splitlines()
    check(out[0] == "old generation: type 3 status 42", out)
    check(out[1].startswith("hello: type 2"), out)
    check(out[2].startswith("reserve: type 5 status 0"), out)
    check(out[3].startswith("reserve: type 3 status 4") and "4000000" in out[3], out)
    check(out[4].startswith("restore 1: type 8 slot 1 cut 17 tier 0") and "after a while" in out[4], out)
    check(out[5].startswith("restore 2: type 8 slot 0 cut 17 tier 1"), out)
    for slot in (0, 1):
        info = os.stat(f"{step.shm}/r0.slot{slot}")
        check(info.st_size == 1000000 and info.st_blocks * 512 >= 1000000, "real blocks")
        os.unlink(f"{step.shm}/r0.slot{slot}")
    page = open(f"{step.shm}/r0.control", "rb").read()
    check(len(page) == 131072 and page[:8] == b"TIDMCTL4", page[:8])
    step.gone()
    world.close()


def case_third_slot():
    """A third slot of each rank, when the agent asks for it and there is room; and none before its first two are there."""
    world = World()
    step = Step(world, [RANK, "hello", "sleep", "500", "reserve", "1000000", "sleep", "60000"], nproc=2, arena_bytes_max=5000000).start()
    step.send({"kind": "widen"})
    world.wait("the first two", lambda: all(os.path.exists(f"{step.shm}/r{rank}.slot1") for rank in (0, 1)))
    check(not any(name.endswith("slot2") for name in os.listdir(step.shm)), os.listdir(step.shm))
    check([rank["slots"] for rank in step.status["ranks"]] == [2, 2], step.status)
    step.send({"kind": "widen"})
    world.wait("a third slot", lambda: sorted(rank.get("slots", 0) for rank in step.status["ranks"]) == [2, 3])
    for _ in range(3):
        step.send({"kind": "widen"})  # there is room for one of the two: it is told once
    world.pump(0.5)
    wide = [f"{step.shm}/r{rank}.slot2" for rank in (0, 1) if os.path.exists(f"{step.shm}/r{rank}.slot2")]
    check(len(wide) == 1 and os.stat(wide[0]).st_blocks * 512 >= 1000000, wide)
    log = open(f"{step.dir}/log", encoding="utf-8").read()
    check(log.count("gets no third slot") == 1 and "--arena-max" in log, log)
    step.send({"kind": "end", "grace_ms": 0})
    world.wait("the end", step.ended)
    step.gone()
    # The next generation finds it.
    again = Step(world, [RANK, "hello", "sleep", "60000"], nproc=2, generation=2, arena_bytes_max=5000000).start()
    world.wait("attached", lambda: len(again.status.get("ranks", [])) == 2 and all(rank.get("attached") for rank in again.status["ranks"]))
    check(sorted(rank.get("slots") for rank in again.status["ranks"]) == [2, 3], again.status)
    again.send({"kind": "end", "grace_ms": 0})
    world.wait("the end", again.ended)
    again.gone()
    world.close()


def case_reserved_ahead():
    """Slots for a job that is checkpointed by itself are made before they are needed; who needs them meanwhile waits."""
    big = 256 << 20
    for every_ms in (1000, 0):
        world = World()
        step = Step(world, [RANK, "hello", "ahead", str(big), "reserve", str(big), "reserve", str(big), "exit", "0"])
        step.spec["job"]["ckpt_every_ms"] = every_ms
        step.start()
        world.wait("the end", step.ended)
        out = step.out().splitlines()
        check(len(out) == 4 and all(line.startswith("reserve: type 5 status 0") for line in out[2:]), out)
        step.gone()
        step.close()
        shutil.rmtree(step.shm)
    world = World()
    for every_ms in (1000, 0):
        step = Step(world, [RANK, "hello", "ahead", "1000000", "sleep", "1500", "exit", "0"])
        step.spec["job"]["ckpt_every_ms"] = every_ms
        step.start()
        world.wait("the end", step.ended)
        slots = [name for name in os.listdir(step.shm) if "slot" in name]
        check(len(slots) == (2 if every_ms else 0), (every_ms, slots))
        step.gone()
        step.close()
        shutil.rmtree(step.shm)
    # More than there may be: told in the log, and again to who asks.
    step = Step(world, [RANK, "hello", "ahead", "9000000", "reserve", "9000000", "exit", "0"], arena_bytes_max=4000000)
    step.spec["job"]["ckpt_every_ms"] = 1000
    step.start()
    world.wait("the end", step.ended)
    check(step.out().splitlines()[2].startswith("reserve: type 3 status 4"), step.out())
    step.gone()
    world.close()


def case_long_directory():
    name = "d" * 120
    step = run_alone([RANK, "hello", "exit", "0"], dir_name=name)
    check("hello: type 2" in step.out(), step.out())
    check(not [d for d in os.listdir("/tmp") if os.path.islink(f"/tmp/{d}/d") and name in os.readlink(f"/tmp/{d}/d")], "the link is left")


def case_bad_spec():
    world = World()
    for change in ({"node_rank": 7}, {"uid": ""}, {"arena": "relative"}, {"job": {"name": "j", "argv": []}}):
        step = Step(world, ["true"])
        step.spec.update(change)
        with open(f"{step.dir}/step.json", "w", encoding="utf-8") as out:
            json.dump(step.spec, out)
        done = subprocess.run([STEP, step.dir], capture_output=True, timeout=WAIT_S, check=False)
        check(done.returncode == 1 and b"step.json" in done.stderr, f"{change}: {done}")
    check(subprocess.run([STEP], capture_output=True, timeout=WAIT_S, check=False).returncode == 2, "usage")
    step = Step(world, ["true"], logs="/proc/no/logs").start()
    world.wait("a place that cannot be written is told", step.ended)
    check("cannot create" in step.status["detail"] and step.rank()["state"] == "exited", step.status)
    world.close()


# ---- MPI ----

def job(world, argv, nodes=1, nproc=2, env=(), **more):
    naps = ["OMPI_MCA_mpi_yield_when_idle=1", f"LD_PRELOAD={PROGRAMS}/nap.so"]  # tests/lib/nap.c
    return [Step(world, argv, nproc=nproc, nodes=nodes, node_rank=i, launcher="pmix", address=f"127.0.0.{i + 1}", env=naps + list(env), **more)
            for i in range(nodes)]


def all_finished(world, steps):
    world.wait("every rank has finished", lambda: all(s.all_in("finished", "exited") for s in steps))
    for step in steps:
        check(step.all_in("finished"), (step.status, step.out(step.rank()["rank"], "err")))
    world.wait("the ends", lambda: all(s.ended() for s in steps))
    for step in steps:
        step.gone()


def case_mpi_one_node():
    world = World()
    steps = job(world, [RING, "20"], nproc=3)
    steps[0].start()
    all_finished(world, steps)
    check(steps[0].out() == "ring ok size 3\n" and steps[0].out(0, "err") == "", (steps[0].out(), steps[0].out(0, "err")))
    check(world.frames == 0, "one node needs no mesh")
    world.close()


def case_mpi_ranks_end_together():
    """What a rank said to libpmix before it ended counts, also when it ended while another one was being reaped."""
    world = World()
    steps = job(world, [RING, "5"], nproc=4)
    steps[0].environ["LD_PRELOAD"] = f"{PROGRAMS}/slow_reap.so"
    steps[0].start()
    all_finished(world, steps)
    world.close()


def case_mpi_two_nodes():
    for loss in (0.0, 0.3):
        world = World()
        world.loss = loss
        steps = job(world, [RING, "5"], nodes=2)
        for step in steps:
            step.start()
        all_finished(world, steps)
        check(steps[0].out() == "ring ok size 4\n", steps[0].out())
        world.close()


def case_mpi_on_demand_modex():
    world = World()
    steps = job(world, [RING, "5"], nodes=2, env=["OMPI_MCA_pmix_base_collect_data=0"])
    for step in steps:
        step.start()
    all_finished(world, steps)
    check(steps[0].out() == "ring ok size 4\n" and world.modex > 0, f"{world.modex} modex frames")
    world.close()


def case_mpi_agent_restarts_in_init():
    world = World()
    steps = job(world, [RING, "5", "slow", "3"], nodes=3)
    for step in steps:
        step.start()
    for step in steps:
        world.wait("running", lambda step=step: step.all_in("running"))
    world.wait("frames under way", lambda: world.frames > 0)
    for step in steps:
        step.disconnect()
        time.sleep(0.3)
        step.connect()
        world.pump(0.1)
    all_finished(world, steps)
    check(steps[0].out() == "ring ok size 6\n", steps[0].out())
    world.close()


def case_mpi_failures():
    for trouble, want in (("abort", lambda r: r["exit_code"] == 7 and "MPI_Abort(7)" in r["detail"]),
                          ("leave", lambda r: r["exit_code"] == 1 and "MPI_Finalize" in r["detail"]),
                          ("die", lambda r: r["signal"] == 9), ("early", lambda r: r["exit_code"] == 3)):
        world = World()
        step = job(world, [RING, "3", trouble, "1"], nproc=2)[0].start()
        world.wait(f"{trouble} is seen", lambda step=step: step.rank(1).get("state") == "exited")
        check(want(step.rank(1)), step.rank(1))
        step.end()
        world.wait("the end", step.ended)
        step.gone()
        world.close()


def netns(words, check_it=True):
    return subprocess.run(["ip"] + words, check=check_it, stdout=subprocess.DEVNULL,
                          stderr=None if check_it else subprocess.DEVNULL).returncode


def case_mpi_two_namespaces():
    if os.geteuid() != 0:
        return "not root"
    names = [f"tss{os.getpid()}{c}" for c in "ab"]
    world = World()
    try:
        for name in names:
            netns(["netns", "add", name])
            netns(["-n", name, "link", "set", "lo", "up"])
        netns(["link", "add", "v0", "netns", names[0], "type", "veth", "peer", "name", "v0", "netns", names[1]])
        for i, name in enumerate(names):
            netns(["-n", name, "addr", "add", f"10.99.0.{i + 1}/24", "dev", "v0"])
            netns(["-n", name, "link", "set", "v0", "up"])
        steps = job(world, [RING, "5"], nodes=2)
        for i, step in enumerate(steps):
            step.netns, step.spec["address"] = names[i], f"10.99.0.{i + 1}"
            step.start()
        all_finished(world, steps)
        check(steps[0].out() == "ring ok size 4\n", steps[0].out())
        counter = subprocess.run(["ip", "netns", "exec", names[0], "cat", "/sys/class/net/v0/statistics/tx_bytes"],
                                 capture_output=True, check=True, text=True).stdout
        check(int(counter) > 1 << 20, f"{counter} bytes went over the wire")
    finally:
        world.close()
        for name in names:
            netns(["netns", "del", name], False)
    return None


def case_mpi_random_kills():
    random.seed(7)
    enough = time.monotonic() + KILL_S
    for generation in range(1, KILL_ROUNDS + 1):
        if generation > KILL_ROUNDS_LEAST and "STEP_KILL_ROUNDS" not in os.environ and time.monotonic() > enough:
            print(f"# {generation - 1} of {KILL_ROUNDS} generations in {KILL_S} s", file=sys.stderr)
            break
        world = World()
        step = job(world, [RING, "3"], nproc=2, generation=generation)[0]
        step.start()
        world.wait("started", lambda step=step: step.status.get("started"))
        time.sleep(random.random() * 0.06)
        victim = step.rank(random.randrange(2))
        try:
            os.kill(victim["pid"], signal.SIGKILL)
        except ProcessLookupError:
            pass
        world.wait("seen", lambda step=step, v=victim["rank"]: step.rank(v)["state"] in ("exited", "finished"))
        step.end()
        world.wait("the end", step.ended)
        step.gone()
        world.close()
        shutil.rmtree(step.dir)


def main():
    names = sys.argv[3:] or [name[5:] for name in globals() if name.startswith("case_")]
    bad = 0
    for name in names:
        begin = time.monotonic()
        try:
            skipped = globals()[f"case_{name}"]()
            left = marked()
            check(not left, f"processes are left: {left}")
            print(f"ok step/{name} # SKIP {skipped}" if skipped else f"ok step/{name}", flush=True)
        except (Failed, KeyError, OSError, IndexError, subprocess.SubprocessError) as error:
            bad += 1
            print(f"not ok step/{name}", flush=True)
            print(f"# {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        for world in World.worlds:
            world.close()
        for pid in marked():
            os.kill(pid, signal.SIGKILL)
        print(f"# {name}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
    return bad


def clean():
    if CGROUP:
        for path, _, _ in os.walk(CGROUP, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                print(f"# {path} is left", file=sys.stderr)
    if not os.environ.get("STEP_KEEP"):
        shutil.rmtree(ROOT, ignore_errors=True)
    shutil.rmtree(SHM, ignore_errors=True)


if __name__ == "__main__":
    try:
        failures = main()
    finally:
        clean()
    sys.exit(1 if failures else 0)
