#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""workload.py --coordinator URL,URL,… --out FILE: clients of the API that write down what they saw (README.md).

Two things of the API are registers. The name of a job: submit creates it if no active job has it, cancel deletes it, a GET
reads it; the value is the last word of the job's command line. It asks for more nodes than there are, so it never starts. And
whether a node is drained: drain and resume write it. Every call is repeated as the command line does it: at the next coordinator, under the same
Idempotency-Key, until somebody answers or its time is up; then its outcome is unknown.

Lines on standard input become notes in the history. The line "end", its end, or --seconds ends the workload: then every key is read once
more through every coordinator. Last line: operations N  retries N  unknown N  errors N; exit status 1 when there were errors:
answers that no client should ever get.
"""
import argparse
import http.client
import json
import os
import random
import ssl
import sys
import threading
import time
import urllib.parse

BACKOFF_S_FIRST = 0.02
BACKOFF_S_MAX = 0.5
REDIRECTS_MAX = 5
NNODES = 500             # of each job: more than there are
REPEAT_PART = 0.05       # of the answered mutations: sent again, as if the answer had been lost
FINAL_S = 30             # for each of the last reads
ERRORS_SHOWN = 10
UNAVAILABLE = (502, 503, 504)
ACTIVE = ("pending", "running", "restarting", "stopping")


class History:
    """The file, and what is counted on the way."""

    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8")
        self.lock = threading.Lock()
        self.next_process = 0
        self.counts = {"operations": 0, "retries": 0, "unknown": 0, "errors": 0}
        self.uids = {}

    def write(self, type_, **fields):
        line = json.dumps({"type": type_, **fields, "time": time.monotonic_ns()})
        with self.lock:
            self.file.write(line + "\n")

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def error(self, text):
        self.count("errors")
        if self.counts["errors"] <= ERRORS_SHOWN:
            print("error: " + text, flush=True)
        self.write("note", text="error: " + text)

    def process(self):
        with self.lock:
            self.next_process += 1
            return self.next_process

    def uid(self, value, uid):
        """Two jobs with one value: a request was carried out twice."""
        with self.lock:
            first = self.uids.setdefault(value, uid)
        if first != uid:
            self.error(f"the job with value {value} was {first} and is {uid}: submitted twice")


class Client:
    """Connections of one client to all coordinators; one call at a time."""

    def __init__(self, options, history, number):
        self.options, self.history = options, history
        self.rng = random.Random(f"{options.seed}/{number}")
        self.urls = options.coordinator.split(",")
        self.preferred = number % len(self.urls)
        self.connections = {}

    def connection(self, origin, timeout):
        known = self.connections.get(origin)
        if known is None:
            parts = urllib.parse.urlsplit(origin)
            if parts.scheme == "https":
                known = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=self.options.tls)
            else:
                known = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
            self.connections[origin] = known
        known.timeout = timeout
        if known.sock is not None:
            known.sock.settimeout(timeout)
        return known

    def drop(self, origin):
        known = self.connections.pop(origin, None)
        if known is not None:
            known.close()

    def attempt(self, origin, method, path, body, headers, timeout):
        """One request, redirects followed: status and body, or None when nobody answered."""
        for _ in range(REDIRECTS_MAX):
            try:
                connection = self.connection(origin, timeout)
                connection.request(method, path, body=body, headers=headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                self.drop(origin)
                return None
            if answer.status not in (307, 308):
                return answer.status, text
            target = urllib.parse.urlsplit(urllib.parse.urljoin(origin + path, answer.getheader("Location", "")))
            origin = f"{target.scheme}://{target.netloc}"
            path = target.path + ("?" + target.query if target.query else "")
        return None

    def call(self, method, path, body=None, key=None, first=None, patience=None):
        """Ask until somebody answers: status and JSON, or None when the time was up."""
        headers = dict(self.options.headers)
        if key is not None:
            headers["Idempotency-Key"] = key
        deadline = time.monotonic() + (patience or self.options.timeout)
        number = 0
        first = self.preferred if first is None else first
        while time.monotonic() < deadline:
            member = (first + number) % len(self.urls)
            left = deadline - time.monotonic()
            got = self.attempt(self.urls[member], method, path, body, headers, min(self.options.attempt, max(left, 0.01)))
            if got is not None and got[0] not in UNAVAILABLE:
                self.preferred = member
                return got[0], self.parse(got[1], method, path)
            number += 1
            self.history.count("retries")
            if number % len(self.urls) == 0:
                most = min(BACKOFF_S_MAX, BACKOFF_S_FIRST * 2 ** (number // len(self.urls)))
                time.sleep(min(self.rng.uniform(0, most), max(deadline - time.monotonic(), 0)))
        return None

    def parse(self, text, method, path):
        try:
            return json.loads(text)
        except ValueError:
            self.history.error(f"{method} {path}: the answer is no JSON: {text[:80]!r}")
            return {}


def error_code(answer):
    error = answer.get("error")
    return error.get("code") if isinstance(error, dict) else None


class Worker(threading.Thread):
    """One client's life: an operation, a pause, the next."""

    def __init__(self, options, history, number, stop):
        super().__init__(daemon=True)
        self.options, self.history, self.stop = options, history, stop
        self.client = Client(options, history, number)
        self.rng = random.Random(f"{options.seed}:{number}")
        self.number, self.made = number, 0
        self.process = history.process()

    def run(self):
        while not self.stop.is_set():
            self.operation()
            self.stop.wait(self.rng.uniform(0, 2 * self.options.pause_ms / 1000))

    def operation(self):
        draw = self.rng.random()
        if self.rng.random() < 0.8:
            name = f"{self.options.prefix}{self.rng.randrange(self.options.jobs)}"
            if draw < 0.45:
                self.read_job(name)
            elif draw < 0.75:
                self.submit(name)
            else:
                self.cancel(name)
        else:
            name = f"{self.options.prefix}n{self.rng.randrange(self.options.nodes)}"
            if draw < 0.5:
                self.read_node(name)
            else:
                self.drain(name, draw < 0.75)

    # ---- one operation each ----

    def submit(self, name):
        self.made += 1
        value = f"v{self.number}.{self.made}"
        body = json.dumps({"name": name, "nnodes": NNODES, "argv": ["/bin/true", value]})
        answer = self.mutate("job/" + name, "create", "POST", "/v1/jobs", body, ("exists",), value=value)
        if answer is not None and "uid" in answer:
            self.history.uid(value, answer["uid"])

    def cancel(self, name):
        self.mutate("job/" + name, "delete", "POST", f"/v1/jobs/{name}/cancel", None, ("not_found", "state"))

    def drain(self, name, drained):
        what = "drain" if drained else "resume"
        self.mutate("node/" + name, "write", "POST", f"/v1/nodes/{name}/{what}", None, (),
                    value="drained" if drained else None)

    def mutate(self, key, op, method, path, body, refusals, value=None):
        request = os.urandom(16).hex()  # not from the seed: a second run must not repeat the requests of the first
        self.history.count("operations")
        self.history.write("invoke", process=self.process, op=op, key=key, value=value)
        got = self.client.call(method, path, body, request)
        if got is None:
            return self.unknown()
        status, answer = got
        if status == 200:
            self.history.write("return", process=self.process, result="ok")
        elif error_code(answer) in refusals:
            self.history.write("return", process=self.process, result="no")
        else:
            self.history.error(f"{method} {path}: status {status}: {answer}")
            return self.unknown()
        if self.rng.random() < REPEAT_PART:
            self.repeat(method, path, body, request, got)
        return answer

    def repeat(self, method, path, body, request, first):
        """The same request again, at any coordinator: the first answer again, and nothing else happens."""
        again = self.client.call(method, path, body, request, first=self.rng.randrange(len(self.client.urls)))
        if again is not None and again != first:
            self.history.error(f"{method} {path} under the same key: first {first}, then {again}")

    def unknown(self):
        self.history.count("unknown")
        self.history.write("unknown", process=self.process)
        self.process = self.history.process()

    def read_job(self, name, **how):
        return self.read("job/" + name, f"/v1/jobs/{name}", self.job_value, **how)

    def read_node(self, name, **how):
        return self.read("node/" + name, f"/v1/nodes/{name}",
                         lambda answer: "drained" if answer["node"].get("cordoned") else None, **how)

    def job_value(self, answer):
        job = answer["job"]
        value = job["spec"]["argv"][1]
        self.history.uid(value, job["uid"])
        return value if job["state"] in ACTIVE else None

    def read(self, key, path, value_of, **how):
        self.history.count("operations")
        self.history.write("invoke", process=self.process, op="read", key=key)
        if self.options.stale:
            path += "?stale=true"
            how.setdefault("first", self.rng.randrange(len(self.client.urls)))
        got = self.client.call("GET", path, **how)
        if got is None:
            self.history.write("fail", process=self.process)
            return False
        status, answer = got
        if status == 200:
            self.history.write("return", process=self.process, result="ok", value=value_of(answer))
        elif error_code(answer) == "not_found":
            self.history.write("return", process=self.process, result="ok", value=None)
        else:
            self.history.error(f"GET {path}: status {status}: {answer}")
            self.history.write("fail", process=self.process)
        return True


def register_nodes(options, history):
    """Nodes that are only names: nobody sends heartbeats for them, so they are lost soon; that says nothing of draining."""
    as_agent = argparse.Namespace(**{**vars(options), "tls": tls_of(options.agent_identity or options.identity)})
    client = Client(as_agent, history, 0)
    for i in range(options.nodes):
        name = f"{options.prefix}n{i}"
        hello = {"name": name, "uid": f"{i:016x}", "incarnation": f"{i:016x}", "address": "127.0.0.1", "slots": 1}
        got = client.call("POST", "/v1/agent/register", json.dumps(hello), f"register-{name}", patience=FINAL_S)
        if got is None or got[0] != 200:
            sys.exit(f"workload.py: node {name} cannot be registered: {got}")


def final_reads(options, history):
    """Through every coordinator: whatever was acknowledged is there, whomever one asks."""
    for member in range(len(options.coordinator.split(","))):
        reader = Worker(options, history, 0, threading.Event())
        for i in range(options.jobs):
            if not reader.read_job(f"{options.prefix}{i}", first=member, patience=FINAL_S):
                history.error(f"job {options.prefix}{i} cannot be read after all has healed")
        for i in range(options.nodes):
            if not reader.read_node(f"{options.prefix}n{i}", first=member, patience=FINAL_S):
                history.error(f"node {options.prefix}n{i} cannot be read after all has healed")


def take_notes(history, stop):
    for line in sys.stdin:
        if line == "end\n":
            break
        history.write("note", text=line.strip())
    stop.set()


def tls_of(identity):
    if identity is None:
        return None
    context = ssl.create_default_context(cafile=os.path.join(identity, "ca.pem"))
    context.load_cert_chain(os.path.join(identity, "cert.pem"), os.path.join(identity, "key.pem"))
    return context


def options_of(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--coordinator", required=True, help="URLs of all coordinators, comma-separated")
    parser.add_argument("--out", required=True, help="the history; lines are added")
    parser.add_argument("--seconds", type=float, default=0, help="end after this long; 0: at the end of standard input")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=16, help="job names that are used")
    parser.add_argument("--nodes", type=int, default=4, help="node names that are used")
    parser.add_argument("--prefix", default="lin-")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause-ms", type=float, default=15, help="mean pause of a client between two operations")
    parser.add_argument("--timeout", type=float, default=10, help="seconds after which an outcome is unknown")
    parser.add_argument("--attempt", type=float, default=1, help="seconds for one answer of one coordinator")
    parser.add_argument("--stale", action="store_true", help="read what each member has: not linearizable, as lin_check must find")
    parser.add_argument("--identity", help="directory with ca.pem, cert.pem and key.pem, for https")
    parser.add_argument("--agent-identity", help="the same, to register nodes with")
    options = parser.parse_args(argv)
    options.coordinator = ",".join(url.rstrip("/") for url in options.coordinator.split(","))
    options.headers = {"Content-Type": "application/json"}
    options.tls = tls_of(options.identity)
    return options


def main(argv):
    options = options_of(argv)
    history = History(options.out)
    stop = threading.Event()
    register_nodes(options, history)
    workers = [Worker(options, history, number, stop) for number in range(options.clients)]
    for worker in workers:
        worker.start()
    if options.seconds > 0:
        stop.wait(options.seconds)
        stop.set()
    else:
        take_notes(history, stop)
    for worker in workers:
        worker.join()
    final_reads(options, history)
    history.file.close()
    print("  ".join(f"{name} {number}" for name, number in history.counts.items()))
    return 1 if history.counts["errors"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
