# SPDX-License-Identifier: MIT
"""Three nodes on one store restart a service on 20 hosts by the shipped task rolling_restart; the one that runs
it, or another, is killed at a random moment, sometimes a second one too. The hosts' own files tell how often each
was restarted, and whether it was put back into its load balancer."""

import os
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

from common import (BROKEN, CHANGED, FAILED, Failure, Hosts, NODE_TIMEOUT, OK, SKIPPED, check_leases, check_nodes,
                    make_node, wait_ended)
from exedtest import Redis, children_of, free_port
from exedtest.procs import command_line

# Writes down what it was asked to restart, and takes its time.
SYSTEMCTL = """#!/bin/sh
d=${0%/*}/..
case $1 in
restart) echo "$2" >>"$d/restarts"; sleep 0.2 ;;
is-active) echo active ;;
show) ;;
esac
"""
LB = "echo %s >>$EXED_TEST_DIR/lb-%s"


class Healthy(BaseHTTPRequestHandler):
    """/health of every host."""

    def do_GET(self):  # noqa: N802
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def serve_health(stack, hosts):
    """A server at each host's address; returns their port."""
    addresses = [host.address for host in hosts.hosts]
    port = free_port(addresses=addresses)
    for address in addresses:
        server = HTTPServer((address, port), Healthy)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
    return port


def install(hosts):
    for host in hosts.hosts:
        os.makedirs(os.path.join(host.dir, "bin"), exist_ok=True)
        path = os.path.join(host.dir, "bin", "systemctl")
        with open(path, "w", encoding="utf-8") as f:
            f.write(SYSTEMCTL)
        os.chmod(path, 0o755)


def runs_task(node):
    return any("--task" in command_line(pid) for pid in children_of(node.pid))


def check_host(host, service, records, counts):
    """What is wrong with one host after its job: a list of texts."""
    restarts = host.read("restarts").split().count(service)
    pool = host.read("lb-" + service).split()
    outcome = records[-1] if records else None
    what = "%s: %d restarts, %s, told %r" % (host.name, restarts, " ".join(pool[-2:]), records)
    if outcome is None or outcome["name"] != "rolling_restart":
        return ["no outcome: " + what]
    unknown = [record for record in records if record.get("unknown")]
    counts["hosts"] += 1
    problems = []
    if pool and pool[-1] != "restore":
        problems.append("left drained: " + what)
    if outcome["status"] in (OK, CHANGED):
        counts["restarted once"] += 1
        if restarts != 1:
            problems.append("not once: " + what)
    elif outcome["status"] == SKIPPED:
        counts["not begun"] += 1
        if restarts:
            problems.append("restarted, and told as not begun: " + what)
    elif outcome["status"] == FAILED and unknown:
        counts["unknown"] += 1
        if restarts > 1:
            problems.append("twice: " + what)
    else:
        problems.append("odd: " + what)
    return problems


def check_job(job, hosts, service, counts):
    problems, told = [], job["return_data"]
    for host in hosts.hosts:
        problems += check_host(host, service, told.get(host.name), counts)
    unknown = any(record.get("unknown") for records in told.values() for record in records)
    if job["state"] != 0 and not unknown:
        problems.append("job %s failed: %s" % (job["taskid"], job["error"]))
    return problems


def submit(node, service, port, size):
    body = {"targets": "all", "taskname": "rolling_restart", "taskopts": {
        "service": service, "size": size, "settle": 0, "port": port, "drain": LB % ("drain", service),
        "restore": LB % ("restore", service)}}
    try:
        answer = node.post("/tasks", body, timeout=20)
    except BROKEN as e:
        raise Failure("POST /tasks: %s" % e) from None
    if answer.status != 201:
        raise Failure("POST /tasks: %d %s" % (answer.status, answer.body))
    return answer.body["jid"]


def kill(rng, nodes, tally):
    """Kills the node that runs the task, mostly; returns it."""
    owners = [node for node in nodes if node.child and runs_task(node)]
    victim = owners[0] if owners and rng.random() < 0.8 else rng.choice([n for n in nodes if n.child])
    tally.counts["owners killed" if victim in owners else "others killed"] += 1
    victim.kill9()
    return victim


def one_round(rng, hosts, nodes, port, service, tally):
    problems, dead = [], []
    jid = submit(rng.choice(nodes), service, port, rng.randint(2, 6))
    moment = rng.uniform(0, 3)
    time.sleep(moment)
    dead.append(kill(rng, nodes, tally))
    if rng.random() < 0.3:
        dead[0].start()
        dead.clear()
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, 2 * NODE_TIMEOUT))
        dead.append(kill(rng, nodes, tally))
    lives = [node for node in nodes if node.child]
    try:
        problems += check_job(wait_ended(lives[0], jid, 90), hosts, service, tally.counts)
        tally.counts["jobs ended"] += 1
    except Failure as e:
        problems.append(str(e))
    for node in dead:
        node.start()
    problems += check_leases(lives[0]) + check_nodes(lives[0], len(nodes))
    return "killed after %.2f s" % moment, problems


def run(rngs, tally):
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        install(hosts)
        port = serve_health(stack, hosts)
        redis = stack.enter_context(Redis())
        tally.nodes = nodes = [stack.enter_context(make_node(hosts, n, redis.url)) for n in range(3)]
        for number, rng in enumerate(rngs, 1):
            text, problems = one_round(rng, hosts, nodes, port, "svc%d" % number, tally)
            tally.line(number, text, problems)
