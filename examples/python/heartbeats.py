"""Plain pyzmq peers with heartbeats on stay connected, although they have nothing else to say for many heartbeats.

python heartbeats.py tcp://127.0.0.1:7314 tcp://127.0.0.1:7315        (the account_server and the ticker example)
"""

import sys
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from client import Client, Method, account

INTERVAL = 0.1
PATIENCE = 1.0
SILENCE = 3.0

GONE = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED


def with_heartbeats(kind):
    """A socket that asks every 100 ms whether the other side is there, and takes it for gone after a second without any answer."""
    socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.heartbeat_ivl = int(1000 * INTERVAL)
    socket.heartbeat_timeout = int(1000 * PATIENCE)
    socket.heartbeat_ttl = int(1000 * PATIENCE)
    return socket


def losses(monitor, seconds):
    """Events of the connection's loss within that time."""
    found, until = [], time.monotonic() + seconds
    while monitor.poll(max(0, int(1000 * (until - time.monotonic())))):
        event = recv_monitor_message(monitor)["event"]
        if event & GONE:
            found.append(zmq.Event(event).name)
    return found


def main():
    server, publisher = sys.argv[1:3]

    dealer = with_heartbeats(zmq.DEALER)
    seen = dealer.get_monitor_socket(GONE)
    client = Client(server, socket=dealer)
    call = client.call(Method(account.Account, "version"), user="ann")
    client.attempt(call)

    subscriber = with_heartbeats(zmq.SUB)
    heard = subscriber.get_monitor_socket(GONE)
    subscriber.connect(publisher)
    subscriber.subscribe(b"no.such.topic/")  # Nothing comes but the answers to its heartbeats.

    lost = losses(seen, SILENCE) + losses(heard, SILENCE)
    assert not lost, lost
    # On the same connection as before: a new one would know no session.
    client.attempt(client.call(Method(account.Account, "version"), user="ann"))
    print(f"connected for {SILENCE:.0f} s and more by heartbeats alone")


if __name__ == "__main__":
    main()
