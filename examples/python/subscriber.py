"""A subscriber in plain pyzmq and pycapnp, as docs/wire.md describes it: prints the prices of one symbol, and says what it missed.

python subscriber.py tcp://127.0.0.1:7315 ACME 3        (the ticker example; a symbol; how many events)
"""

import pathlib
import sys

import capnp
import zmq

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "schemas"
wire = capnp.load(str(SCHEMAS / "wire.capnp"))
ticker = capnp.load(str(SCHEMAS / "examples" / "ticker.capnp"), imports=[str(SCHEMAS)])


def events(endpoint, topic, key, patience=10.0):
    """Yields (sequence, missed, price) of one key of a topic."""
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.linger = 0
    socket.connect(endpoint)
    frame = f"{topic}/{key}".encode()
    socket.subscribe(frame)
    last = {}
    while socket.poll(int(patience * 1000)):
        topic_frame, header, *bodies = socket.recv_multipart()
        # The filter is a prefix: a subscriber to ACME gets ACMEX too.
        if topic_frame != frame:
            continue
        with wire.Header.from_bytes(header) as header:
            for entry in header.entries:
                if entry.which() != "event":
                    continue
                source = (entry.event.publisher, entry.event.epoch)
                sequence = entry.event.sequence
                before = last.get(source, sequence - 1)
                if sequence <= before:
                    continue  # A duplicate.
                last[source] = sequence
                body = bodies[entry.frame][entry.offset : entry.offset + entry.length]
                with ticker.Price.from_bytes(body) as price:
                    yield sequence, sequence - before - 1, price.to_dict()
    raise TimeoutError(f"no event of {frame.decode()} within {patience} s")


def main():
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7315"
    symbol = sys.argv[2] if len(sys.argv) > 2 else "ACME"
    wanted = int(sys.argv[3]) if len(sys.argv) > 3 else None
    for count, (sequence, missed, price) in enumerate(events(endpoint, "ticker.price", symbol), start=1):
        if missed:
            print(f"missed {missed}")
        print(f"event {sequence}: {price}", flush=True)
        if count == wanted:
            return


if __name__ == "__main__":
    main()
