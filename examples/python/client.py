"""A client in plain pyzmq and pycapnp, as docs/wire.md describes it: changes ann's password, twice under one nonce.

python client.py tcp://127.0.0.1:7314        (the account_server example)
"""

import itertools
import pathlib
import secrets
import sys
import time

import capnp
import zmq
from capnp.lib.capnp import _StructModule

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "schemas"
wire = capnp.load(str(SCHEMAS / "wire.capnp"))
account = capnp.load(str(SCHEMAS / "examples" / "account.capnp"), imports=[str(SCHEMAS)])


class Method:
    """What the contract says of a method: who it is, and the structs of its parameters and its result."""

    def __init__(self, interface, name):
        schema = interface.schema
        self.interface = schema.node.id
        self.ordinal = list(schema.method_names).index(name)
        self.params = _StructModule(schema.methods[name].param_type, name + "Params")
        self.results = _StructModule(schema.methods[name].result_type, name + "Results")


class Call:
    """One intention. All attempts of it carry the same number, which is its nonce, and the same bytes."""

    def __init__(self, method, number, stamp, params):
        self.method = method
        self.attempts = 0
        self.body = method.params.new_message(**params).to_bytes()
        self.fields = {
            "firstStamp": stamp,
            "id": {"sequenced": number},
            "interface": method.interface,
            "method": method.ordinal,
            "retry": "once",
            "issued": int(time.time() * 1000),
            # One call at a time: all calls before this one are closed, and the server may forget them.
            "ackedBelow": number,
        }


class Client:
    """One connection: says hello, then sends pings and calls, one at a time."""

    def __init__(self, endpoint, patience=5.0, socket=None):
        self.patience = patience
        self.numbers = itertools.count(1)
        self.socket = socket or zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        # No call may be sent before the welcome. The id tells the welcome to this hello from one to an older hello.
        hello = {"id": secrets.randbits(64), "version": 1, "session": id128(), "ackedBelow": 1}
        self.send({"hello": hello})
        self.welcome, _ = self.receive("welcome", lambda welcome: welcome["hello"] == hello["id"])

    def call(self, method, **params):
        """A new call; nothing is sent yet."""
        return Call(method, next(self.numbers), self.welcome["stamp"], params)

    def attempt(self, call):
        """Sends the call, or sends it again; returns its result, and whether that came from the server's record."""
        call.attempts += 1
        fields = {
            "registration": self.welcome["registration"],
            "incarnation": self.welcome["incarnation"],
            "attempt": call.attempts,
            "timeLeft": int(self.patience * 1000),
        }
        self.send({"call": call.fields | fields}, call.body)
        reply, body = self.receive("reply", lambda reply: reply["id"] == call.fields["id"] and reply["attempt"] == call.attempts)
        if "ok" not in reply:
            raise RuntimeError(f"the call was answered with {reply}")
        with call.method.results.from_bytes(body) as result:
            return result.to_dict(), reply["replayed"]

    def ping(self):
        """Asks whether the server is there; returns how long the answer took, in seconds."""
        started, number = time.monotonic(), secrets.randbits(64)
        self.send({"ping": number})
        self.receive("pong", lambda pong: pong == number)
        return time.monotonic() - started

    def send(self, entry, body=b""):
        """A message of one entry: the header, and its body if it has one, which then is frame 0 from offset 0."""
        header = wire.Header.new_message(entries=[{"length": len(body), **entry}])
        self.socket.send_multipart([header.to_bytes()] + ([body] if body else []))

    def receive(self, kind, wanted):
        """Waits for an entry of that kind; answers pings, ignores what else there is."""
        deadline = time.monotonic() + self.patience
        while self.socket.poll(max(0, int(1000 * (deadline - time.monotonic())))):
            header, *bodies = self.socket.recv_multipart()
            with wire.Header.from_bytes(header) as header:
                for entry in header.entries:
                    which = entry.which()
                    body = b""
                    if entry.length:
                        body = bodies[entry.frame][entry.offset : entry.offset + entry.length]
                    value = entry.to_dict()[str(which)]
                    if which == "ping":
                        self.send({"pong": value})
                    elif which == "goodbye":
                        raise ConnectionError(f"the server says goodbye: {value}")
                    elif which == kind and wanted(value):
                        return value, body
        raise TimeoutError(f"no {kind} within {self.patience} s")


def id128():
    return {"high": secrets.randbits(64), "low": secrets.randbits(64)}


def main():
    client = Client(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7314")
    print(f"pong after {1000 * client.ping():.1f} ms")

    change_password = Method(account.Account, "changePassword")
    call = client.call(change_password, user="ann", password="correct horse")
    first, replayed = client.attempt(call)
    print(f"attempt 1: {first}, replayed: {replayed}")
    assert not replayed
    # As if the reply had been lost: the same call again. One effect, and the selfsame reply.
    again, replayed = client.attempt(call)
    print(f"attempt 2: {again}, replayed: {replayed}")
    assert replayed and again == first
    # Another call, with an effect of its own.
    other, replayed = client.attempt(client.call(change_password, user="ann", password="battery staple"))
    print(f"another call: {other}, replayed: {replayed}")
    assert not replayed and other["version"] == first["version"] + 1


if __name__ == "__main__":
    main()
